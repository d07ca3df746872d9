"""What a checkpoint's small files say that a run should know of: two chat templates, tokens without a row in the model,
rules of generation that are not applied."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.model_files.fingerprint import read_config, stated_vocab_size
from foreshock.jobs.prompts.markers import control_tokens, find_controls
from foreshock.jobs.prompts.settings import DEFAULT
from foreshock.jobs.prompts.tokenizer import Tokenizer, template_sources
from foreshock.jobs.prompts.turns import Turns

_NEUTRAL: Mapping[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": None,
    "min_length": 0,
    "min_new_tokens": None,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "penalty_alpha": None,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "token_healing": False,
    "watermarking_config": None,
}
"""Rules of transformers' generation configuration that change what a model says at any temperature, and their values
where they do nothing. Rates and log-probabilities are those of the model, so none is applied."""


def generation_rules(model: Path) -> str | None:
    """Rules of the model's generation_config.json that a run does not follow, in words."""
    file = model / "generation_config.json"
    try:
        config = read_config(file) if file.is_file() else {}
    except InputError:
        return None  # said where its end tokens are read
    set_ = {
        name: config[name] for name, neutral in _NEUTRAL.items() if config.get(name, neutral) not in (neutral, None)
    }
    if not set_:
        return None
    shown = ", ".join(f"{name} {json.dumps(value)[:40]}" for name, value in sorted(set_.items()))
    more = "; sampling.stop takes stop strings" if "stop_strings" in set_ else ""
    return f"{shown}: not applied, since rates and log-probabilities are those of the model itself{more}"


def two_templates(folder: Path) -> str | None:
    """Whether a folder holds chat templates that differ, and which one counts."""
    found = dict(_templates(folder))
    if len(found) < 2 or len({text.strip() for text in found.values()}) == 1:
        return None
    first, *others = found
    return f"{first} and that of {', '.join(others)} differ; the first is the one that is used"


def template_without_tokenizer(model: Path, tokenizer: Path) -> str | None:
    """The name of a template beside the weights that would not be used, because the tokenizer lies elsewhere and has
    another; None if there is none."""
    if model == tokenizer:
        return None
    used = next((text for _, text in _templates(tokenizer)), None)
    return next((name for name, text in _templates(model) if used is None or text.strip() != used.strip()), None)


def odd_template(tokenizer: Tokenizer) -> Iterator[str]:
    """What the chat template does that a prompt should not have, or that no stop can end."""
    default = tokenizer.chat_template
    if str(default or "").startswith("\ufeff"):
        yield "begins with a byte order mark, and so does every prompt"
    try:
        turn = Turns(tokenizer, DEFAULT).plain() if default else None
    except InputError:
        return  # said where prompts are made
    if default and turn is None:
        yield (
            "renders no answered turn, so what ends a turn is known from the tokenizer and generation_config.json alone"
        )
    end = turn.after_last.strip() if turn is not None else ""
    if end and not find_controls(end, control_tokens(tokenizer)):
        yield (
            f"an answered turn ends with {end[:40]!r}, which is no token of the tokenizer, so no stop token ends a "
            "continuation there; sampling.stop takes it as a string"
        )


def ends_without_a_row(model: Path, ends: Iterable[int]) -> str | None:
    """End tokens that the model's files name and its output layer lacks, in words; None if there are none."""
    rows = stated_vocab_size(model)
    beyond = [str(number) for number in ends if rows is not None and number >= rows]
    if not beyond:
        return None
    return f"end token {', '.join(beyond)} has no row among the model's {rows}: the file is another model's"


def _templates(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, default template) of each file that holds one, the one that counts first."""
    file = folder / "chat_template.jinja"
    try:
        if file.is_file():
            yield file.name, file.read_text(encoding="utf-8")
        for name in ("tokenizer_config.json", "chat_template.json"):
            inline = read_config(folder / name).get("chat_template") if (folder / name).is_file() else None
            if isinstance(inline, str):
                yield name, inline
    except (InputError, OSError, UnicodeDecodeError):
        return  # said where the tokenizer is loaded


def tokens_without_a_row(tokenizer: Tokenizer, model: Path) -> tuple[str, bool] | None:
    """Tokens whose ids the model's embeddings do not have, in words, and whether its chat templates write one of them;
    None if there are none."""
    rows = stated_vocab_size(model)
    if rows is None:
        return None
    beyond = sorted(name for name, number in tokenizer.get_vocab().items() if number >= rows)
    if not beyond:
        return None
    sources = template_sources(tokenizer)
    written = list(_written(beyond, control_tokens(tokenizer), sources))
    shown = ", ".join(map(repr, (written or beyond)[:5]))
    n = len(beyond)
    return f"{n} of its tokens ({shown}) have no row among the model's {rows}", bool(written)


def _written(beyond: list[str], controls: frozenset[str], sources: str) -> Iterator[str]:
    yield from (name for name in beyond if name in controls and name in sources)
