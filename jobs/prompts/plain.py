"""`plain`: a text layout for models without a chat template.

    {system}                  (with a blank line after it; left out when there is none)
    User: {user}

    Assistant: <think>
    {prefill}

The model continues the reasoning, closes it with </think> and answers. A beginning-of-text token is added exactly
when the tokenizer adds one to plain text, because such models were trained with it.
"""

from __future__ import annotations

from functools import cached_property

from foreshock.jobs.prompts.base import ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat import split_at
from foreshock.jobs.prompts.chat_template import Renderer, rendering_digest
from foreshock.jobs.prompts.tokenizer import Tokenizer

_LAYOUT = "User: {user}\n\nAssistant: <think>\n"
_NEXT_TURN = "\nUser:"


class PlainFormat:
    """Implements `PromptFormat`."""

    name = "plain"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        end = tokenizer.eos_token_id
        self.stop_token_ids: tuple[int, ...] = () if end is None else (int(end),)
        self._renderer = Renderer(tokenizer, _prompt)
        begin = tokenizer.bos_token_id
        adds = begin is not None and tokenizer.encode("x", add_special_tokens=True)[:1] == [begin]
        self._begin: tuple[int, ...] = (int(begin),) if adds else ()

    @cached_property
    def _digest(self) -> str:
        return rendering_digest(self._tokenizer, format=self.name, layout=_LAYOUT, begin=self._begin)

    def template_sha256(self) -> str:
        """Digest of everything that decides the rendering."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The layout of the module's docstring."""
        body = self._renderer.render(system, user, prefill)
        return RenderedPrompt(self._begin + body.token_ids, body.prefill_start + len(self._begin), body.text)

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Reasoning up to </think>; the answer ends where the model writes a further user turn."""
        parsed = split_at(text, "</think>")
        answer = None if parsed.answer is None else parsed.answer.partition(_NEXT_TURN)[0]
        return ParsedResponse(parsed.reasoning, answer)


def _prompt(system: str | None, user: str) -> str:
    head = f"{system}\n\n" if system else ""
    return head + _LAYOUT.replace("{user}", user)
