"""`chat`: the tokenizer's chat template, whatever it does about reasoning.

A reasoning section counts only if the template itself opens it at the end of its generation prompt. Otherwise the
prefill opens the assistant's message, and the text before the first code fence is taken for the reasoning.
"""

from __future__ import annotations

import re
from functools import cached_property, partial

from foreshock.jobs.prompts.base import ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import Renderer, end_of_turn_ids, render_chat, rendering_digest
from foreshock.jobs.prompts.tokenizer import Tokenizer

_OPENED = re.compile(r"(?P<left>[<\[])(?P<name>think|thinking|thought|reasoning|seed:think)(?P<right>[>\]])\s*$", re.I)
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.M)


def opened_section(prompt: str) -> str | None:
    """The closing tag of the reasoning section that `prompt` leaves open, or None."""
    match = _OPENED.search(prompt)
    return f"{match['left']}/{match['name']}{match['right']}" if match else None


def split_at(text: str, closing: str) -> ParsedResponse:
    """Reasoning before the first closing tag, answer after it; no answer if the tag never came."""
    reasoning, found, answer = text.partition(closing)
    return ParsedResponse(reasoning, answer.lstrip("\n") if found else None)


class ChatFormat:
    """Implements `PromptFormat`."""

    name = "chat"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.stop_token_ids = end_of_turn_ids(tokenizer)
        self._renderer = Renderer(tokenizer, partial(render_chat, tokenizer))
        self._closing = opened_section(render_chat(tokenizer, None, "probe"))

    @cached_property
    def _digest(self) -> str:
        return rendering_digest(self._tokenizer, format=self.name)

    def template_sha256(self) -> str:
        """Digest of everything that decides the rendering."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The prefill follows the generation prompt directly."""
        return self._renderer.render(system, user, prefill)

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Split at the closing tag of the section that the template opened, else at the first code fence."""
        closing = self._closing or ("</think>" if "</think>" in text else None)
        if closing is not None:
            return split_at(text, closing)
        fence = _FENCE.search(text)
        return ParsedResponse(text[: fence.start()], text[fence.start() :]) if fence else ParsedResponse("", text)
