"""`plain`: a text layout for models without a chat template.

    {system}                  (with a blank line after it; left out when there is none)
    User: {user}

    Assistant: <think>
    {prefill}

The model continues the reasoning, closes it with </think> and answers. A beginning-of-text token is added exactly when
the tokenizer adds one to plain text, because such models were trained with it. A run's own opening and closing take
the place of `<think>` and `</think>`.
"""

from __future__ import annotations

from functools import cached_property

from foreshock.jobs.prompts.base import Layout, ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import Renderer, rendering_digest
from foreshock.jobs.prompts.section import Section
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.stops import Stops
from foreshock.jobs.prompts.think import split_at
from foreshock.jobs.prompts.tokenizer import Tokenizer

_LAYOUT = "User: {user}\n\nAssistant: "
_OPENING, _CLOSING = "<think>\n", "</think>"
_NEXT_TURN = "\nUser:"


class PlainFormat:
    """Implements `PromptFormat`."""

    name = "plain"

    def __init__(self, tokenizer: Tokenizer, stops: Stops, settings: PromptSettings = DEFAULT) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._stops = stops
        self.stop_token_ids = stops.token_ids
        self.late_stops = stops.late
        self._opening = _OPENING if settings.opening is None else settings.opening
        self._closing = _CLOSING if settings.closing is None else settings.closing
        markers = [text for text in (self._opening.strip(), self._closing) if text]
        self._renderer = Renderer(tokenizer, self._prompt, settings, markers)
        begin = tokenizer.bos_token_id
        adds = begin is not None and tokenizer.encode("x", add_special_tokens=True)[:1] == [begin]
        self._begin: tuple[int, ...] = (int(begin),) if adds else ()
        own = settings.opening is not None or settings.closing is not None
        self.layout = Layout(
            self._opening,
            self._closing,
            "the run's settings" if own else "foreshock's layout for models without a chat template",
            f"after the first {self._closing!r}, up to a further user turn",
        )

    @cached_property
    def _digest(self) -> str:
        layout = [_LAYOUT, self._opening, self._closing]
        return rendering_digest(
            self._tokenizer,
            self._settings,
            format=self.name,
            layout=layout,
            begin=self._begin,
            stops=self._stops.token_ids,
        )

    def template_sha256(self) -> str:
        """Digest of everything that decides rendering and stops."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The layout of the module's docstring."""
        body = self._renderer.render(system, user, prefill)
        return RenderedPrompt(self._begin + body.token_ids, body.prefill_start + len(self._begin), body.text)

    def render_answer(self, system: str | None, user: str, reasoning: str, answer: str) -> RenderedPrompt:
        """The prompt, `reasoning` in its section and what ends it, then the answer."""
        ending = Section(self._opening, self._closing, "", "").ending
        body = self._renderer.render_answer(system, user, reasoning, ending, answer)
        return RenderedPrompt(self._begin + body.token_ids, body.prefill_start + len(self._begin), body.text)

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Reasoning up to the closing marker; the answer ends where the model writes a further user turn."""
        parsed = split_at(text, self._closing)
        answer = None if parsed.answer is None else parsed.answer.partition(_NEXT_TURN)[0]
        return ParsedResponse(parsed.reasoning, answer)

    def _prompt(self, system: str | None, user: str) -> str:
        head = f"{system}\n\n" if system else ""
        return head + _LAYOUT.replace("{user}", user) + self._opening
