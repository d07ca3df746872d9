"""The prompt-format seam: one rendering serves generation and scoring, token for token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a prompt was rendered from, for servers that render it themselves."""

    system: str | None
    user: str
    template_args: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt up to the point where the model continues.

    `token_ids[prefill_start:]` are the forced reasoning's tokens; empty at level 0. `text` is what was tokenised.
    """

    token_ids: tuple[int, ...]
    prefill_start: int
    text: str
    conversation: Conversation | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A continuation taken apart. `reasoning` is without the prefill; `answer` is None if reasoning never ended."""

    reasoning: str
    answer: str | None


@dataclass(frozen=True, slots=True)
class LateStop:
    """Tokens that end a continuation once `opening` (token ids) has been drawn, and not before: Harmony's `<|end|>`
    closes the reasoning, and some models' final message too."""

    opening: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a format's prompts and answers are laid out, for people.

    opening: text that opens the reasoning, None if prompts open none. closing: text that ends it. source: where both
    were found. answer: where the answer is looked for. doubt: why it is not certain that the model reasons at all.
    """

    opening: str | None
    closing: str | None
    source: str
    answer: str
    doubt: str = ""


class PromptFormat(Protocol):
    """How a model family writes its chain of thought; contract suite: tests/support/prompt_contract.py."""

    name: str
    stop_token_ids: tuple[int, ...]
    late_stops: tuple[LateStop, ...]
    layout: Layout

    def template_sha256(self) -> str:
        """Digest of everything that decides rendering and stops (chat template, tokenizer, settings, format)."""

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """Token ids of the conversation with `prefill` opened as the assistant's unfinished reasoning."""

    def render_answer(self, system: str | None, user: str, reasoning: str, answer: str) -> RenderedPrompt:
        """Token ids of the conversation, `reasoning` ended as the model ends it, then the beginning of the answer.

        `token_ids[prefill_start:]` are the answer's tokens. Formats whose prompt opens no reasoning take none:
        PrefillTextError for any. Raises PrefillTextError for texts that hold a control token or a marker.
        """

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Split a continuation (prompt and prefill excluded) into reasoning and answer."""
