"""Which prompt format a tokenizer gets.

`auto` looks at what the tokenizer can do, never at a model's name, so that fine-tuned checkpoints in directories of
any name are rendered as their family is.
"""

from __future__ import annotations

from collections.abc import Callable

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.chat import ChatFormat
from foreshock.jobs.prompts.harmony import REQUIRED_TOKENS, HarmonyFormat
from foreshock.jobs.prompts.plain import PlainFormat
from foreshock.jobs.prompts.think import ThinkFormat
from foreshock.jobs.prompts.tokenizer import Tokenizer, token_id

_FORMATS: dict[str, Callable[[Tokenizer], PromptFormat]] = {
    "chat": ChatFormat,
    "harmony": HarmonyFormat,
    "plain": PlainFormat,
    "think": ThinkFormat,
}
FORMAT_NAMES = ("auto", *sorted(_FORMATS))
"""Every name that `select_format` knows."""


def select_format(name: str, tokenizer: Tokenizer) -> PromptFormat:
    """The prompt format called `name` for this tokenizer; `auto` decides by `detect_format`.

    Raises ValueError for an unknown name or a tokenizer that the format cannot serve.
    """
    if name not in FORMAT_NAMES:
        raise InputError(f"unknown prompt format {name!r}; valid: {', '.join(FORMAT_NAMES)}")
    return _FORMATS[detect_format(tokenizer) if name == "auto" else name](tokenizer)


def detect_format(tokenizer: Tokenizer) -> str:
    """`harmony` if the vocabulary has its control tokens; else `think` or `chat` by the chat template; else `plain`."""
    if all(token_id(tokenizer, token) is not None for token in REQUIRED_TOKENS):
        return "harmony"
    template = tokenizer.chat_template
    if not template:
        return "plain"
    return "think" if "<think>" in str(template) else "chat"
