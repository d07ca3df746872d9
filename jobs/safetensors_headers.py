"""Names, shapes and types of stored tensors, read off safetensors' headers; no torch, no weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file; its numbers lie at bytes `start` to `end` of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def stored_tensors(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """Every tensor of the safetensors files among `files`, by name. Raises OSError or ValueError for a broken one."""
    found: dict[str, StoredTensor] = {}
    for file in files:
        if file.suffix != ".safetensors":
            continue
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, facts in header.items():
            if name != "__metadata__":
                start, end = facts["data_offsets"]
                offset = 8 + length
                found[name] = StoredTensor(file, facts["dtype"], tuple(facts["shape"]), offset + start, offset + end)
    return found


def same_numbers(one: StoredTensor, other: StoredTensor, n_blocks: int = 512, block: int = 4096) -> bool:
    """Whether two stored tensors hold the same bytes, told by blocks spread over them; all of small ones."""
    size = one.end - one.start
    if (one.dtype, one.shape) != (other.dtype, other.shape) or size != other.end - other.start:
        return False
    with one.file.open("rb") as a, other.file.open("rb") as b:
        for i in range(n_blocks):
            at = max(0, size - block) * i // (n_blocks - 1)
            a.seek(one.start + at)
            b.seek(other.start + at)
            if a.read(min(block, size)) != b.read(min(block, size)):
                return False
            if size <= block:
                break
    return True
