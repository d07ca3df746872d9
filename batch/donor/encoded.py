"""Token sequences of which only the end is trained on, as tensors, and runs that repeat bit for bit on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one item; `ids[start:]` are the assistant's, end token included."""

    ids: tuple[int, ...]
    start: int


def padded(batch: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, T) right-padded with 0; labels (B, T), -100 on the prompt and the padding.

    No attention mask: with causal attention no real token sees the padding to its right.
    """
    import torch

    length = max(len(item.ids) for item in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    labels = torch.full((len(batch), length), -100, dtype=torch.long)
    for row, item in enumerate(batch):
        ids[row, : len(item.ids)] = torch.tensor(item.ids)
        labels[row, item.start : len(item.ids)] = torch.tensor(item.ids[item.start :])
    return ids, labels


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads; the former settings come back afterwards."""
    import torch

    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
