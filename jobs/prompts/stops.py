"""What ends a continuation: the tokens that the model's own files name, and those that its answered turns end with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.jobs.adapters import base_of, is_adapter
from foreshock.jobs.fingerprint import CheckpointError, read_config
from foreshock.jobs.prompts.base import LateStop
from foreshock.jobs.prompts.markers import control_tokens, find_controls
from foreshock.jobs.prompts.section import Section
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, encode_prompt, token_id
from foreshock.jobs.prompts.turns import Turns


@dataclass(frozen=True, slots=True)
class Stops:
    """token_ids end a continuation wherever they come; `late` ones only in the answer, since the reasoning section ends
    with them too. trailer: what the model writes between its answer and the end, without the whitespace around it."""

    token_ids: tuple[int, ...]
    late: tuple[LateStop, ...] = ()
    trailer: str = ""


def model_ends(path: Path) -> tuple[int, ...]:
    """The end-of-sequence ids that `generate()` would use for a checkpoint: of generation_config.json, else of
    config.json. An adapter's own files come before its base's. Raises CheckpointError for files that make no sense."""
    folders = [path]
    if is_adapter(path):
        folders.append(base_of(path))
    for folder in folders:
        for name in ("generation_config.json", "config.json"):
            file = folder / name
            if file.is_file():
                found = tuple(_ids(file, read_config(file)))
                if found:
                    return found
    return ()


def _ids(file: Path, config: Mapping[str, Any]) -> Iterator[int]:
    text = config.get("text_config")
    given = config.get("eos_token_id")
    if given is None and isinstance(text, Mapping):
        given = text.get("eos_token_id")
    for number in given if isinstance(given, list) else [given]:
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise CheckpointError(f"{file}: eos_token_id is {given!r}; valid: a token id, or a list of them")
        yield number


def derive_stops(
    tokenizer: Tokenizer,
    settings: PromptSettings,
    section: Section | None,
    ends: Iterable[int] = (),
    system: str | None = None,
) -> Stops:
    """The union of the tokenizer's end token, `ends` (those of the model's files), the run's own, and what an answered
    turn ends with in every template of the tokenizer."""
    named = [tokenizer.eos_token_id, *ends]
    known = tuple(dict.fromkeys(int(i) for i in named if i is not None))
    found: list[int] = []
    trailer = ""
    for name in _template_names(tokenizer):
        turn = Turns(tokenizer, settings, system, name).plain()
        if turn is None:
            continue
        place, number = _end_of(tokenizer, turn.after_last, known)
        trailer = trailer or turn.after_last[:place].strip()
        _, earlier = _end_of(tokenizer, turn.after_earlier or "", known)
        found += [i for i in (number, earlier) if i is not None]
    return _sorted_out(tokenizer, [*known, *found], settings.stop_token_ids, section, trailer)


def _sorted_out(
    tokenizer: Tokenizer, ids: list[int], wanted: tuple[int, ...], section: Section | None, trailer: str
) -> Stops:
    """Tokens that the model also writes between reasoning and answer count in the answer only. What the run itself
    names ends a continuation wherever it comes."""
    between = section.closing + section.answer_header if section is not None else ""
    inner = {token_id(tokenizer, token) for _, token in find_controls(between, control_tokens(tokenizer))}
    unconditional = dict.fromkeys([*(i for i in ids if i not in inner), *wanted])
    late = tuple(dict.fromkeys(i for i in ids if i in inner and i not in wanted))
    if not late or section is None:
        return Stops(tuple(unconditional), (), trailer)
    header = encode_prompt(tokenizer, section.answer_header)
    opening = header if header else encode_prompt(tokenizer, section.closing)
    return Stops(tuple(unconditional), (LateStop(opening, late),), trailer)


def _template_names(tokenizer: Tokenizer) -> list[str | None]:
    """None is the default; the others by name."""
    template = tokenizer.chat_template
    if not isinstance(template, dict):
        return [None] if template else []
    return [None, *(name for name in template if name != "default")]


def _end_of(tokenizer: Tokenizer, after: str, known: tuple[int, ...]) -> tuple[int, int | None]:
    """(place, id) of the token with which a turn ends: a known one if there is one, else the first control token."""
    marks = [(place, token_id(tokenizer, token)) for place, token in find_controls(after, control_tokens(tokenizer))]
    for place, number in marks:
        if number in known:
            return place, number
    return marks[0] if marks else (len(after), None)
