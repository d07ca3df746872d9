"""The prompt-format seam: one rendering serves generation and scoring, token for token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a prompt was rendered from, for servers that render it themselves."""

    system: str | None
    user: str


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


class PromptFormat(Protocol):
    """How a model family writes its chain of thought; contract suite: tests/support/prompt_contract.py."""

    name: str
    stop_token_ids: tuple[int, ...]

    def template_sha256(self) -> str:
        """Digest of everything that decides the rendering (chat template, format name and version)."""

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """Token ids of the conversation with `prefill` opened as the assistant's unfinished reasoning."""

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Split a continuation (prompt and prefill excluded) into reasoning and answer."""
