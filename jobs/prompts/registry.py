"""Which prompt format a tokenizer gets."""

from __future__ import annotations

from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.tokenizer import Tokenizer

FORMAT_NAMES = ("auto", "chat", "harmony", "plain", "think")


def select_format(name: str, tokenizer: Tokenizer) -> PromptFormat:
    """The prompt format called `name`; `auto` looks at the tokenizer. Raises ValueError for an unknown name."""
    raise NotImplementedError
