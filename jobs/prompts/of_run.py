"""A run's prompt format: what its plan says about prompts, over one checkpoint's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.template_arguments import heeded_arguments
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.spec import Checkpoint


def prompt_settings(settings: WorkerSettings) -> PromptSettings:
    """How a run's prompts depart from what the tokenizer's own files say."""
    return PromptSettings(settings.template_args, settings.opening, settings.closing, tuple(settings.stop_token_ids))


def run_format(settings: WorkerSettings, checkpoint: Checkpoint, name: str | None = None) -> PromptFormat:
    """The prompt format of a run over a checkpoint; `name` is the resolved one, where it is known."""
    return checkpoint_format(name or settings.prompt_format, checkpoint, prompt_settings(settings), settings.system)


def rendering(settings: WorkerSettings, prompt_format: PromptFormat, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a run's prompts and stops resolve to, for plan and report."""
    own = prompt_settings(settings)
    layout = prompt_format.layout

    def named(ids: tuple[int, ...]) -> list[dict[str, Any]]:
        return [{"id": number, "token": decode(tokenizer, (number,))} for number in ids]

    return {
        "format": prompt_format.name,
        "template_args": heeded_arguments(tokenizer, own),
        "date": f"{own.date:%Y-%m-%d}",
        "opening": layout.opening,
        "closing": layout.closing,
        "derived_from": layout.source + ("; whether the model reasons is not certain" if layout.doubt else ""),
        "answer": layout.answer,
        "stop_tokens": named(prompt_format.stop_token_ids),
        "stop_tokens_in_the_answer": [
            {"after": decode(tokenizer, stop.opening), "tokens": named(stop.token_ids)}
            for stop in prompt_format.late_stops
        ],
    }


def row_rendering(settings: WorkerSettings, prompt_format: PromptFormat) -> dict[str, Any]:
    """What a row says about its rendering: with `system`, `prompt` and `prefill_reasoning`, enough to repeat it."""
    return {
        "format": prompt_format.name,
        "template_args": dict(settings.template_args),
        "opening": settings.opening,
        "closing": settings.closing,
        "stop_token_ids": list(prompt_format.stop_token_ids),
    }


def stated_rendering(row: Mapping[str, Any]) -> tuple[str, PromptSettings]:
    """Format name and settings that a row's `rendering` states; `auto` and the defaults where it states none. Raises
    InputError for values of another kind."""
    name, arguments = row.get("format", "auto"), row.get("template_args") or {}
    opening, closing = row.get("opening"), row.get("closing")
    strange = not isinstance(opening, str | None) or not isinstance(closing, str | None)
    if strange or not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError("a row's `rendering` is not foreshock's: it has format, template_args, opening and closing")
    return name, PromptSettings(arguments, opening, closing)
