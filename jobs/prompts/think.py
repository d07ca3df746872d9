"""`think`: models that reason inside <think> ... </think>.

The block is open at every level, 0 included, so that all levels condition on the same prompt. The opening is the
template's own: what its generation prompt ends with, else what it writes around an earlier turn's reasoning, else
`<think>` and a newline.
"""

from __future__ import annotations

import re
from functools import cached_property

from foreshock.jobs.prompts.base import ParsedResponse, RenderedPrompt
from foreshock.jobs.prompts.chat import opened_section, split_at
from foreshock.jobs.prompts.chat_template import (
    Renderer,
    TemplateError,
    apply_template,
    end_of_turn_ids,
    render_chat,
    rendering_digest,
)
from foreshock.jobs.prompts.tokenizer import Tokenizer

_EMPTY_BLOCK = re.compile(r"<think>\s*</think>\s*$")
_DEFAULT_OPENING = "<think>\n"


class ThinkFormat:
    """Implements `PromptFormat`."""

    name = "think"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.stop_token_ids = end_of_turn_ids(tokenizer)
        self._opening = _template_opening(tokenizer)
        self._renderer = Renderer(tokenizer, self._prompt)

    @cached_property
    def _digest(self) -> str:
        return rendering_digest(self._tokenizer, format=self.name, opening=self._opening)

    def template_sha256(self) -> str:
        """Digest of everything that decides the rendering."""
        return self._digest

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """The prefill goes inside the block, which stays open."""
        return self._renderer.render(system, user, prefill)

    def _prompt(self, system: str | None, user: str) -> str:
        prompt = _EMPTY_BLOCK.sub("", render_chat(self._tokenizer, system, user))
        return prompt if opened_section(prompt) else prompt + self._opening

    def parse(self, token_ids: tuple[int, ...], text: str) -> ParsedResponse:
        """Reasoning up to the first </think>; a block opened again at the start is part of the opening."""
        return split_at(text.removeprefix("<think>"), "</think>")


def _template_opening(tokenizer: Tokenizer) -> str:
    """How the template opens the block, seen from how it renders an answered turn."""
    turn = {"role": "assistant", "content": "ANSWER", "reasoning_content": "REASONING"}
    try:
        text = apply_template(tokenizer, [{"role": "user", "content": "QUESTION"}, turn], add_generation_prompt=False)
    except TemplateError:
        return _DEFAULT_OPENING
    match = re.search(r"(<think>\s*)REASONING", text)
    return match[1] if match else _DEFAULT_OPENING
