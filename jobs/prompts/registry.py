"""Which prompt format a tokenizer gets: by what its template and vocabulary do, never by a model's name, so that
fine-tuned checkpoints in directories of any name are rendered as their family is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.chat import ChatFormat
from foreshock.jobs.prompts.chat_template import TemplateError, require_template
from foreshock.jobs.prompts.harmony import HARMONY_SECTION, REQUIRED_TOKENS, HarmonyFormat
from foreshock.jobs.prompts.markers import closing_of, control_tokens, last_marker, mirrored
from foreshock.jobs.prompts.plain import PlainFormat
from foreshock.jobs.prompts.section import Section, derive_section
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.stops import Stops, derive_stops, model_ends
from foreshock.jobs.prompts.template_arguments import require_known_arguments
from foreshock.jobs.prompts.think import ThinkFormat
from foreshock.jobs.prompts.tokenizer import TEKKEN, Tokenizer, load_tokenizer, template_sources, token_id
from foreshock.jobs.prompts.turns import Turns
from foreshock.jobs.records.spec import Checkpoint

FORMAT_NAMES = ("auto", "chat", "harmony", "plain", "think")
"""Every name that `select_format` knows."""


def checkpoint_format(
    name: str, checkpoint: Checkpoint, settings: PromptSettings = DEFAULT, system: str | None = None
) -> PromptFormat:
    """The prompt format of a checkpoint: its tokenizer, and the ends that its generation config names.

    Raises InputError, naming the directory, as `select_format` does.
    """
    tokenizer, ends = load_tokenizer(checkpoint.tokenizer_path), model_ends(checkpoint.path)
    if name == "auto" and not tokenizer.chat_template and (checkpoint.tokenizer_path / TEKKEN).is_file():
        raise TemplateError(
            f"{checkpoint.tokenizer_path}: {TEKKEN} without a chat template: how the model is asked is not said there",
            fix="save the model's chat_template.jinja beside it, or set prompt.format: plain for a base model",
        )
    try:
        return select_format(name, tokenizer, settings, system, ends)
    except InputError as error:
        known = error.path is not None or isinstance(error, TemplateError)
        raise error if known else InputError(str(error), path=checkpoint.tokenizer_path) from None


def select_format(
    name: str,
    tokenizer: Tokenizer,
    settings: PromptSettings = DEFAULT,
    system: str | None = None,
    ends: Sequence[int] = (),
) -> PromptFormat:
    """The prompt format called `name` for this tokenizer; `auto` decides by what its template does.

    `system` is the run's system message: some templates switch reasoning by it. `ends` are the end tokens that the
    model's files name. Raises InputError for an unknown name, for a tokenizer that the format cannot serve, and where
    the reasoning section cannot be derived.
    """
    if name not in FORMAT_NAMES:
        raise InputError(f"unknown prompt format {name!r}; valid: {', '.join(FORMAT_NAMES)}")
    require_known_arguments(tokenizer, settings)
    if name == "plain" or (name == "auto" and not tokenizer.chat_template and not _speaks_harmony(tokenizer)):
        return PlainFormat(tokenizer, _stops(tokenizer, settings, None, ends, None), settings)
    section = _section(name, tokenizer, settings, system)
    stops = _stops(tokenizer, settings, section, ends, system)
    if name == "harmony" or (name == "auto" and _is_harmony(tokenizer, section)):
        return HarmonyFormat(tokenizer, section, stops, settings)
    turns = Turns(tokenizer, settings, system)
    if settings.opening is None:
        _require_generation_prompt(turns, tokenizer, section)
    if section is not None and name != "auto":
        section = replace(section, doubt="")  # the run says what the model is
    if name == "think" or (name == "auto" and section is not None and not section.closed):
        return ThinkFormat(tokenizer, section, stops, settings)
    return ChatFormat(tokenizer, section, stops, settings, turns.answer_lead())


def _section(name: str, tokenizer: Tokenizer, settings: PromptSettings, system: str | None) -> Section | None:
    """The section of the run's settings, else of the template. `chat` needs none: what cannot be derived is none."""
    if not tokenizer.chat_template and _speaks_harmony(tokenizer):
        return HARMONY_SECTION
    require_template(tokenizer)
    if settings.opening is not None and settings.closing is not None:
        return Section(settings.opening, settings.closing, "", "the run's settings", closed=False)
    try:
        found = derive_section(tokenizer, settings, system)
    except InputError:
        if name != "chat" and settings.opening is None and settings.closing is None:
            raise
        found = None
    if settings.opening is None and settings.closing is None:
        return found
    return _completed(tokenizer, settings, found)


def _require_generation_prompt(turns: Turns, tokenizer: Tokenizer, section: Section | None) -> None:
    """Raise TemplateError if prompts would end before the header of the assistant's turn. What an answer stands in is
    none: a section, or markers that are closed after it."""
    turn = turns.plain()
    left_out = turns.header_left_out(turns.generation_prompt(), turn)
    if not left_out or turn is None:
        return
    if section is not None and (section.closing in left_out or section.answer_header == left_out):
        return
    marker = last_marker(left_out, control_tokens(tokenizer))
    if marker is not None and any(text in turn.after_last for text in mirrored(marker)):
        return
    raise TemplateError(
        f"the chat template does not heed add_generation_prompt: answered turns begin with {left_out[:60]!r}, which "
        "prompts would lack",
        fix="save the template with its generation prompt, or set prompt.format: think, with that text and the text "
        "that opens the reasoning as prompt.opening",
    )


def _completed(tokenizer: Tokenizer, settings: PromptSettings, found: Section | None) -> Section:
    """A section of which the run gives one marker only: the other one is the template's, or follows from it."""
    source = "the run's settings and the chat template"
    if settings.opening is None:
        assert settings.closing is not None
        if found is None:
            raise InputError("prompt.closing is set, but not what opens the section", fix="set prompt.opening too")
        return replace(found, closing=settings.closing, source=source, between="")
    if found is not None:
        return replace(found, opening=settings.opening, source=source, closed=False)
    marker = last_marker(settings.opening, control_tokens(tokenizer))
    closing = closing_of(marker, tokenizer, template_sources(tokenizer)) if marker is not None else None
    if closing is None:
        raise InputError("prompt.opening is set, but not what closes the section", fix="set prompt.closing too")
    return Section(settings.opening, closing, "", source)


def _stops(
    tokenizer: Tokenizer,
    settings: PromptSettings,
    section: Section | None,
    ends: Sequence[int],
    system: str | None,
) -> Stops:
    stops = derive_stops(tokenizer, settings, section, ends, system)
    if not stops.token_ids and not stops.late:
        raise InputError(
            "nothing says which token ends the model's turn: the tokenizer has no eos_token, and neither the "
            "generation config nor the chat template names one",
            fix="set sampling.stop_token_ids",
        )
    return stops


def _speaks_harmony(tokenizer: Tokenizer) -> bool:
    return all(token_id(tokenizer, token) is not None for token in REQUIRED_TOKENS)


def _is_harmony(tokenizer: Tokenizer, section: Section | None) -> bool:
    """Whether reasoning is a message on a channel of its own, in Harmony's tokens."""
    if not _speaks_harmony(tokenizer):
        return False
    return section is None or "<|channel|>" in section.opening or "<|channel|>" in section.answer_header
