"""`think`: models that write their reasoning in a section of its own, whatever its markers are.

The section is open at every level, 0 included, so that all levels condition on the same prompt. Its markers are those
of the chat template (`section`), or the run's own.
"""

from __future__ import annotations

import re
from functools import cached_property

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import Layout, ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import Renderer, TemplateError, render_chat, rendering_digest
from foreshock.jobs.prompts.markers import control_tokens, last_marker, reasoning_pairs
from foreshock.jobs.prompts.section import WHAT_TO_SET, Section
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.stops import Stops
from foreshock.jobs.prompts.tokenizer import Tokenizer, template_sources

_QUESTION = "Say hello."


def split_at(text: str, closing: str, header: str = "", trailer: str = "") -> ParsedResponse:
    """Reasoning before the first closing marker, answer after it and its header; no answer if the marker never came."""
    reasoning, found, answer = text.partition(closing)
    return ParsedResponse(reasoning, bare_answer(answer, header, trailer) if found else None)


def bare_answer(answer: str, header: str, trailer: str) -> str:
    """An answer without what the family writes around it."""
    if header and answer.lstrip().startswith(header):
        answer = answer.lstrip()[len(header) :]
    if trailer and answer.rstrip().endswith(trailer):
        answer = answer.rstrip()[: -len(trailer)]
    return answer.lstrip("\n")


class ThinkFormat:
    """Implements `PromptFormat`. Raises InputError for a section that is not known whole."""

    name = "think"

    def __init__(
        self, tokenizer: Tokenizer, section: Section | None, stops: Stops, settings: PromptSettings = DEFAULT
    ) -> None:
        if section is None:
            raise InputError(
                "the prompt format 'think' needs a reasoning section, and the chat template has none", fix=WHAT_TO_SET
            )
        if section.closed and not section.opening:
            raise InputError(
                "the chat template's generation prompt closes the reasoning section and does not show how it is opened",
                fix="set prompt.template_args to switch reasoning on, or prompt.opening",
            )
        self._tokenizer = tokenizer
        self._settings = settings
        self._section = section
        self._stops = stops
        self.stop_token_ids = stops.token_ids
        self.late_stops = stops.late
        opening = section.opening.strip()
        marker = last_marker(section.opening, control_tokens(tokenizer))
        markers = [section.closing] + ([marker] if marker else [])
        self._renderer = Renderer(tokenizer, self._prompt, settings, markers)
        self._empty = re.compile(
            (rf"\s*{re.escape(opening)}" if opening else "")
            + rf"\s*{re.escape(section.closing)}\s*"
            + (rf"(?:{re.escape(section.answer_header)})?\s*$" if section.answer_header else "$")
        )
        self._again = opening or _opened(tokenizer, section.closing, settings)
        self.layout = Layout(
            opening=section.opening or self._again,
            closing=section.closing,
            source=section.source,
            answer=f"after the first {section.closing!r}",
            doubt=section.doubt,
        )

    @cached_property
    def _digest(self) -> str:
        section = [self._section.opening, self._section.closing, self._section.answer_header]
        stops = [self._stops.token_ids, [[stop.opening, stop.token_ids] for stop in self._stops.late]]
        return rendering_digest(self._tokenizer, self._settings, format=self.name, section=section, stops=stops)

    def template_sha256(self) -> str:
        """Digest of everything that decides rendering and stops."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The prefill goes inside the section, which stays open. Raises TemplateError where the template closes it."""
        return self._renderer.render(system, user, prefill)

    def render_answer(self, system: str | None, user: str, reasoning: str, answer: str) -> RenderedPrompt:
        """The prompt, `reasoning` in its section and what ends it, then the answer."""
        return self._renderer.render_answer(system, user, reasoning, self._section.ending, answer)

    def _prompt(self, system: str | None, user: str) -> str:
        prompt = render_chat(self._tokenizer, system, user, self._settings)
        opening = self._section.opening
        held = self._empty.search(prompt)
        if held is not None:
            if not self._section.closed:
                raise TemplateError(
                    "the chat template closes the reasoning section in this conversation, because of its system or "
                    "user message; set prompt.template_args, or prompt.format: chat to evaluate without reasoning"
                )
            lead = re.match(r"\s*", held[0])
            keep = lead[0] if lead and not opening.startswith(("\n", " ")) else ""
            return prompt[: held.start()] + keep + opening
        return prompt if opening and prompt.endswith(opening) else prompt + opening

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Reasoning up to the first closing marker; a section opened again at the start is part of the opening."""
        body = text.removeprefix(self._again) if self._again else text
        return split_at(body, self._section.closing, self._section.answer_header, self._stops.trailer)


def _opened(tokenizer: Tokenizer, closing: str, settings: PromptSettings) -> str:
    """The text with which a prompt that opens the section itself ends."""
    prompt = render_chat(tokenizer, None, _QUESTION, settings).rpartition(_QUESTION)[2]
    pairs = reasoning_pairs(prompt, tokenizer, template_sources(tokenizer))
    held = [text for text, end in pairs.items() if end == closing and prompt.rstrip().endswith(text)]
    words = prompt.split()
    return max(held, key=len, default=words[-1] if words else "")
