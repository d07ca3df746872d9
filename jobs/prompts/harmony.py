"""`harmony`: gpt-oss, whose messages name their channel.

The prefill opens the assistant's analysis message, `<|start|>assistant<|channel|>analysis<|message|>`, which is
left unfinished. Responses are taken apart by token ids, because the text of a control token can also occur as
ordinary text. `<|end|>` closes every message but the last, which some models close with it too: it ends a continuation
once the final message has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import LateStop, Layout, ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import Renderer, render_chat, rendering_digest
from foreshock.jobs.prompts.section import Section
from foreshock.jobs.prompts.settings import DEFAULT, PromptSettings
from foreshock.jobs.prompts.stops import Stops
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode, encode_prompt, token_id

HARMONY_SECTION = Section(
    "<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant<|channel|>final<|message|>", "the Harmony format"
)
"""What a tokenizer without a chat template gets."""
_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\n"
    "Current date: {date}\n\n"
    "Reasoning: {effort}\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
)
_FINAL = "<|channel|>final<|message|>"
REQUIRED_TOKENS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")


def harmony_stops(tokenizer: Tokenizer, found: Stops, wanted: Sequence[int] = ()) -> Stops:
    """Stops that keep Harmony's messages apart: `<|return|>` and a tool call end the turn, `<|end|>` only a final
    message. What the run itself names (`wanted`) ends a continuation anywhere."""
    end = token_id(tokenizer, "<|end|>")
    own = [token_id(tokenizer, "<|return|>"), token_id(tokenizer, "<|call|>"), *found.token_ids]
    ids = dict.fromkeys(i for i in own if i is not None and (i != end or i in wanted))
    late = () if end is None or end in wanted else (LateStop(encode_prompt(tokenizer, _FINAL), (end,)),)
    return Stops(tuple(ids), late, found.trailer)


@dataclass(frozen=True, slots=True)
class _Message:
    channel: str
    text: str


class HarmonyFormat:
    """Implements `PromptFormat`. A tokenizer without a chat template gets gpt-oss's own layout."""

    name = "harmony"

    def __init__(
        self,
        tokenizer: Tokenizer,
        section: Section | None,
        stops: Stops,
        settings: PromptSettings = DEFAULT,
    ) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._section = section or HARMONY_SECTION
        ids = {token: token_id(tokenizer, token) for token in REQUIRED_TOKENS}
        missing = [token for token, number in ids.items() if number is None]
        if missing:
            raise InputError(
                f"the prompt format 'harmony' needs the tokens {', '.join(missing)}, which this tokenizer lacks; use "
                "'auto', or the tokenizer of a gpt-oss model"
            )
        self._id = {token: number for token, number in ids.items() if number is not None}
        self._renderer = Renderer(tokenizer, self._prompt, settings, REQUIRED_TOKENS)
        self._stops = stops = harmony_stops(tokenizer, stops, settings.stop_token_ids)
        self.stop_token_ids = stops.token_ids
        self.late_stops = stops.late
        self.layout = Layout(
            self._section.opening, self._section.closing, self._section.source, "in the last message of channel final"
        )

    @cached_property
    def _digest(self) -> str:
        section = [self._section.opening, self._section.closing, self._section.answer_header]
        stops = [self._stops.token_ids, [[stop.opening, stop.token_ids] for stop in self._stops.late]]
        system = None if self._tokenizer.chat_template else _SYSTEM
        return rendering_digest(
            self._tokenizer, self._settings, format=self.name, section=section, stops=stops, system=system
        )

    def template_sha256(self) -> str:
        """Digest of everything that decides rendering and stops."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The conversation, then an analysis message that begins with the prefill and stays open."""
        return self._renderer.render(system, user, prefill)

    def _prompt(self, system: str | None, user: str) -> str:
        if self._tokenizer.chat_template:
            prompt = render_chat(self._tokenizer, system, user, self._settings)
        else:
            effort = self._settings.template_args.get("reasoning_effort", "medium")
            head = _SYSTEM.format(date=f"{self._settings.date:%Y-%m-%d}", effort=effort)
            developer = f"<|start|>developer<|message|># Instructions\n\n{system}<|end|>" if system else ""
            prompt = f"{head}{developer}<|start|>user<|message|>{user}<|end|><|start|>assistant"
        opening = self._section.opening
        return prompt if prompt.endswith(opening) else prompt + opening

    def render_answer(self, system: str | None, user: str, reasoning: str, answer: str) -> RenderedPrompt:
        """The prompt, `reasoning` in its section and what ends it, then the answer."""
        return self._renderer.render_answer(system, user, reasoning, self._section.ending, answer)

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Analysis messages make the reasoning, the last final message the answer."""
        if decode(self._tokenizer, token_ids) != text:  # cut at a stop string
            token_ids = encode_prompt(self._tokenizer, text)
        messages = list(self._messages(token_ids))
        reasoning = "\n".join(m.text for m in messages if m.channel == "analysis")
        finals = [m.text for m in messages if m.channel == "final"]
        return ParsedResponse(reasoning, finals[-1] if finals else None)

    def _messages(self, token_ids: tuple[int, ...]) -> Iterator[_Message]:
        """Messages of a continuation that begins inside the analysis message."""
        end, message, channel = (self._id[t] for t in ("<|end|>", "<|message|>", "<|channel|>"))
        closing = {end, *self.stop_token_ids}
        name, header = "analysis", False
        body: list[int] = []
        for number in token_ids:
            if number in closing:
                if not header:
                    yield _Message(name, decode(self._tokenizer, tuple(body)))
                name, header, body = "", True, []
            elif number == self._id["<|start|>"]:  # a message that was never closed
                if not header and body:
                    yield _Message(name, decode(self._tokenizer, tuple(body)))
                name, header, body = "", True, []
            elif number == channel and header:
                body = []
            elif number == message and header:
                words = decode(self._tokenizer, tuple(body)).split()
                name, header, body = (words[0] if words else ""), False, []
            else:
                body.append(number)
        if not header and body:
            yield _Message(name, decode(self._tokenizer, tuple(body)))
