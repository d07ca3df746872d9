"""Render a conversation with the tokenizer's own chat template, the same on every day and machine.

What templates read from the clock is pinned. gpt-oss and Llama 3 write today's date into the prompt; a sweep that
resumes after midnight would otherwise change its prompts, and so its probabilities.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import Conversation, RenderedPrompt
from foreshock.jobs.prompts.tokenizer import Tokenizer, encode_prefill, encode_prompt, token_id

PINNED_DATE = datetime.datetime(2025, 8, 5)
TEMPLATE_ARGUMENTS = {
    "enable_thinking": True,
    "thinking": True,
    "date_string": PINNED_DATE.strftime("%d %b %Y"),
}
"""What templates are told; those of Qwen, DeepSeek and Llama read them."""

RENDERING_VERSION = 1
"""Raise it when the rendering of any format changes: it is part of `template_sha256`."""

_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>", "<|user|>")


class TemplateError(InputError):
    """A tokenizer whose chat template is missing or cannot render a plain conversation."""


def render_chat(tokenizer: Tokenizer, system: str | None, user: str) -> str:
    """The conversation up to where the assistant's turn begins. Reasoning modes are switched on."""
    if not tokenizer.chat_template:
        raise TemplateError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; use the prompt format "
            "'plain', or save the tokenizer with its template"
        )
    messages = [{"role": "user", "content": user}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    try:
        return apply_template(tokenizer, messages, add_generation_prompt=True)
    except TemplateError:
        if not system:
            raise
        merged = [{"role": "user", "content": f"{system}\n\n{user}"}]  # templates without a system role
        return apply_template(tokenizer, merged, add_generation_prompt=True)


def apply_template(tokenizer: Tokenizer, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    """`apply_chat_template` as text, with the date pinned. Raises TemplateError if the template refuses."""
    from jinja2 import TemplateError as JinjaError

    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **TEMPLATE_ARGUMENTS,
            strftime_now=PINNED_DATE.strftime,
        )
    except (JinjaError, TypeError, ValueError) as error:
        raise TemplateError(f"the chat template cannot render the conversation: {error}") from error
    return text


class Renderer:
    """Joins prompts and prefills, tokenised apart: the boundary is exact.

    `prompt` writes the conversation up to the prefill. Recent prompts and prefills are remembered, since all
    levels and attempts of a task share them.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Callable[[str | None, str], str]) -> None:
        self._prompt = lru_cache(4096)(lambda system, user: self._encoded(tokenizer, prompt(system, user)))
        self._prefill = lru_cache(4096)(lambda text: encode_prefill(tokenizer, text))

    def render(self, system: str | None, user: str, prefill: str) -> RenderedPrompt:
        """Token ids of the prompt and of the prefill, joined."""
        text, ids = self._prompt(system, user)
        return RenderedPrompt(ids + self._prefill(prefill), len(ids), text + prefill, Conversation(system, user))

    @staticmethod
    def _encoded(tokenizer: Tokenizer, text: str) -> tuple[str, tuple[int, ...]]:
        return text, encode_prompt(tokenizer, text)


def end_of_turn_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Tokens that end the assistant's turn: the end of text, and end-of-turn tokens that the template uses."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    ids = [tokenizer.eos_token_id] + [token_id(tokenizer, t) for t in _END_OF_TURN if t in template]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def rendering_digest(tokenizer: Tokenizer, **settings: Any) -> str:
    """sha256 of everything that turns a conversation into token ids: template, tokenizer, date, format settings."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary: Any = tokenizer.get_vocab()
    else:
        vocabulary = json.loads(backend.to_str())
        vocabulary.pop("padding", None)  # set by calls, not part of the tokenizer
        vocabulary.pop("truncation", None)
    content = {
        "version": RENDERING_VERSION,
        "chat_template": tokenizer.chat_template,
        "date": PINNED_DATE.isoformat(),
        "tokenizer": vocabulary,
        **settings,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
