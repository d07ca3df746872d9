"""`chat`: the tokenizer's chat template without a reasoning section of its own.

The prefill opens the assistant's message, and the text before the first code fence is taken for the reasoning. A
prefill that ends inside a code fence is refused: what followed it would be the model's code and the forced one in one.
"""

from __future__ import annotations

import re
from functools import cached_property, partial

from foreshock.jobs.prompts.base import Layout, ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import Renderer, render_chat, rendering_digest
from foreshock.jobs.prompts.section import Section
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.stops import Stops
from foreshock.jobs.prompts.think import bare_answer, split_at
from foreshock.jobs.prompts.tokenizer import PrefillTextError, Tokenizer

_FENCE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})(?P<rest>.*)$", re.M)


def ends_in_fence(text: str) -> bool:
    """Whether a text ends inside a code block."""
    fence = ""
    for match in _FENCE.finditer(text):
        if not fence:
            fence = match["fence"]
        elif match["fence"].startswith(fence) and match["rest"].strip() in ("", "END"):
            fence = ""
    return bool(fence)


class ChatFormat:
    """Implements `PromptFormat`. `section` is the template's, if it has one: open in the generation prompt, it takes
    the prefill; closed there, the prefill comes after it; where the model opens it itself, its reasoning is in it.
    `lead`: the whitespace that the model writes before its answer."""

    name = "chat"

    def __init__(
        self,
        tokenizer: Tokenizer,
        section: Section | None,
        stops: Stops,
        settings: PromptSettings = DEFAULT,
        lead: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._stops = stops
        self.stop_token_ids = stops.token_ids
        self.late_stops = stops.late
        opened = section is not None and not section.closed and not section.opening
        self._section = section if opened else None
        self._models_own = section if section is not None and not opened and not section.closed else None
        self._header = section.answer_header if section is not None else ""
        markers = [section.closing] if section is not None else []
        self._lead = "" if opened else lead
        write = partial(render_chat, tokenizer, settings=settings)
        self._renderer = Renderer(tokenizer, write, settings, markers, self._lead)
        source = "the chat template, whose prompt opens no reasoning"
        if section is not None and section.closed:
            source = f"the chat template, whose prompt closes the reasoning at once ({section.closing!r})"
        self.layout = Layout(
            opening="" if self._section else None,
            closing=self._section.closing if self._section else None,
            source=self._section.source if self._section else source,
            answer=f"after the first {self._section.closing!r}" if self._section else "from the first code fence on",
        )

    @cached_property
    def _digest(self) -> str:
        closing = self._section.closing if self._section else None
        stops = [self._stops.token_ids, [[stop.opening, stop.token_ids] for stop in self._stops.late]]
        return rendering_digest(self._tokenizer, self._settings, format=self.name, closing=closing, stops=stops)

    def template_sha256(self) -> str:
        """Digest of everything that decides rendering and stops."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The prefill follows the generation prompt as answers do. Raises PrefillTextError if it ends inside a code
        block of what would be the answer."""
        if self._section is None and ends_in_fence(prefill):
            raise PrefillTextError(
                "the prefill ends inside a code block, and this model has no reasoning section, so the forced code "
                "would be part of its answer; cut the trace before its code"
            )
        return self._renderer.render(system, user, prefill)

    def render_answer(self, system: str | None, user: str, reasoning: str, answer: str) -> RenderedPrompt:
        """The answer follows the generation prompt; reasoning only where the template has opened a section for it."""
        ending = self._section.ending if self._section is not None else None
        return self._renderer.render_answer(system, user, reasoning, ending, answer)

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Split at the closing marker of the section that the template opened, else at the first code fence."""
        if self._section is not None:
            return split_at(text, self._section.closing, self._header, self._stops.trailer)
        own = self._models_own
        if own is not None and own.closing in text:
            return split_at(text.removeprefix(own.opening.strip()), own.closing, self._header, self._stops.trailer)
        text = bare_answer(text, self._header, self._stops.trailer)
        fence = _FENCE.search(text)
        return ParsedResponse(text[: fence.start()], text[fence.start() :]) if fence else ParsedResponse("", text)
