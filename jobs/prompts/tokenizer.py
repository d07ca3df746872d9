"""Tokenizers and the exact prompt/prefill boundary.

The one hard decision: prompt and prefill are tokenised separately and their ids joined. No token can then span
the boundary, `prefill_start` is exact, and the prompt's ids are the same at every level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

Tokenizer = Any
"""A transformers fast tokenizer; transformers has no type stubs."""


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint directory, cached by path."""
    raise NotImplementedError
