"""What a run says about its prompts, beside the texts: template arguments, section markers, further stops."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foreshock.errors import InputError

PINNED_DATE = datetime.datetime(2025, 8, 5)
"""What templates read from the clock. gpt-oss and Llama 3 write today's date into the prompt; a sweep that resumes
after midnight would otherwise change its prompts, and so its probabilities."""

SWITCHES: Mapping[str, Any] = {"enable_thinking": True, "thinking": True}
"""Switches of reasoning that templates read; on, unless a run names one of them itself."""

_RESERVED = frozenset(
    {
        "add_generation_prompt",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_dict",
        "return_tensors",
        "strftime_now",
        "tokenize",
        "tools",
        "truncation",
    }
)


@dataclass(frozen=True)
class PromptSettings:
    """How a run departs from what the tokenizer's own files say.

    template_args: arguments of the chat template; `date` (YYYY-MM-DD) sets what it reads from the clock. opening and
    closing: the texts around the reasoning, where the template does not show them or the model was trained with others;
    None leaves them to the template. stop_token_ids: ids that end a continuation beside the derived ones.
    """

    template_args: Mapping[str, Any] = field(default_factory=dict)
    opening: str | None = None
    closing: str | None = None
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in self.template_args:
            if name in _RESERVED:
                raise InputError(
                    f"prompt.template_args.{name} is not the template's to read: foreshock sets it itself",
                    fix="give arguments such as enable_thinking, reasoning_effort or date",
                )
        self.date  # noqa: B018 - says what is wrong with it, if anything is

    @property
    def date(self) -> datetime.datetime:
        """The time that templates are told."""
        given = self.template_args.get("date")
        if given is None:
            return PINNED_DATE
        try:
            return datetime.datetime.combine(datetime.date.fromisoformat(str(given)), datetime.time())
        except ValueError:
            raise InputError(f"prompt.template_args.date is {given!r}; valid: a day such as 2025-08-05") from None

    def arguments(self) -> dict[str, Any]:
        """All arguments of the template, the clock apart."""
        own = dict(self.template_args)
        switches = {} if any(name in own for name in SWITCHES) else dict(SWITCHES)
        return {**switches, "date_string": self.date.strftime("%d %b %Y"), **own}


DEFAULT = PromptSettings()
