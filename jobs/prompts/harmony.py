"""`harmony`: gpt-oss, whose messages name their channel.

The prefill opens the assistant's analysis message, `<|start|>assistant<|channel|>analysis<|message|>`, which is left
unfinished. Responses are taken apart by token ids, because the text of a control token can also occur as ordinary
text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat_template import PINNED_DATE, Renderer, render_chat, rendering_digest
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode, encode_prompt, token_id

_OPENING = "<|channel|>analysis<|message|>"
_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\n"
    f"Current date: {PINNED_DATE:%Y-%m-%d}\n\n"
    "Reasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
)
REQUIRED_TOKENS = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")


@dataclass(frozen=True, slots=True)
class _Message:
    channel: str
    text: str


class HarmonyFormat:
    """Implements `PromptFormat`. A tokenizer without a chat template gets gpt-oss's own layout."""

    name = "harmony"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = {token: token_id(tokenizer, token) for token in REQUIRED_TOKENS}
        missing = [token for token, number in ids.items() if number is None]
        if missing:
            raise InputError(
                f"the prompt format 'harmony' needs the tokens {', '.join(missing)}, which this tokenizer lacks; use "
                "'auto', or the tokenizer of a gpt-oss model"
            )
        self._id = {token: number for token, number in ids.items() if number is not None}
        self._renderer = Renderer(tokenizer, self._prompt)
        stops = [self._id["<|return|>"], token_id(tokenizer, "<|call|>"), tokenizer.eos_token_id]
        self.stop_token_ids = tuple(dict.fromkeys(i for i in stops if i is not None and i != self._id["<|end|>"]))

    @cached_property
    def _digest(self) -> str:
        return rendering_digest(self._tokenizer, format=self.name, opening=_OPENING, system=_SYSTEM)

    def template_sha256(self) -> str:
        """Digest of everything that decides the rendering."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The conversation, then an analysis message that begins with the prefill and stays open."""
        return self._renderer.render(system, user, prefill)

    def _prompt(self, system: str | None, user: str) -> str:
        if self._tokenizer.chat_template:
            prompt = render_chat(self._tokenizer, system, user)
        else:
            developer = f"<|start|>developer<|message|># Instructions\n\n{system}<|end|>" if system else ""
            prompt = f"{_SYSTEM}{developer}<|start|>user<|message|>{user}<|end|><|start|>assistant"
        return prompt if prompt.endswith(_OPENING) else prompt + _OPENING

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
