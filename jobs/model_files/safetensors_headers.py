"""Names, shapes and types of stored tensors, read off safetensors' headers; no torch, no weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_N_BLOCKS, _BLOCK = 512, 4096


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


def same_numbers(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors hold the same bytes, told by blocks spread over them; all of small ones."""
    if (one.dtype, one.shape) != (other.dtype, other.shape) or one.end - one.start != other.end - other.start:
        return False
    return all(a == b for a, b in zip(_blocks(one), _blocks(other), strict=True))


def is_zero(tensor: StoredTensor) -> bool:
    """Whether a stored tensor holds only zeros, told in the same way; False of an empty one."""
    return tensor.end > tensor.start and not any(any(block) for block in _blocks(tensor))


def _blocks(tensor: StoredTensor) -> Iterator[bytes]:
    size = tensor.end - tensor.start
    with tensor.file.open("rb") as stream:
        for i in range(_N_BLOCKS if size > _BLOCK else 1):
            stream.seek(tensor.start + max(0, size - _BLOCK) * i // (_N_BLOCKS - 1))
            yield stream.read(min(_BLOCK, size))
