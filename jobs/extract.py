"""The code in a model's final answer."""

from __future__ import annotations


def extract_code(answer: str | None, function_name: str | None = None) -> str | None:
    """The submission in `answer` (reasoning already split off), or None when there is no code."""
    raise NotImplementedError
