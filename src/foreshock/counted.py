"""A number with its noun, in the singular where it is one."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """`1 tensor`, `2 tensors`, `1,000 tensors`; `plural` where an s does not make it: `1 copy`, `2 copies`."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
