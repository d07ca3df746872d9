"""The header of a SIF: whether a file is one, what objects it holds, whether it is signed.

Layout of version 01 of the format (github.com/apptainer/sif, pkg/sif): a header of 128 bytes, then descriptors of 585.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from foreshock.containers.errors import ImageError

_MAGIC = b"SIF_MAGIC\0"
_HEADER = 128
_DESCRIPTOR = 585
_TIMES = 64
"""Eight int64: created, modified, descriptors free, total, offset, size; data offset, size."""
_SIGNATURE = 0x4005


@dataclass(frozen=True, slots=True)
class SifObject:
    """One object of a SIF: what kind of data, and where."""

    data_type: int
    offset: int
    size: int


def is_sif(path: Path) -> bool:
    """Whether a file is a SIF."""
    try:
        with path.open("rb") as file:
            return file.read(_HEADER)[32:42] == _MAGIC
    except OSError:
        return False


def sif_objects(path: Path) -> list[SifObject]:
    """Objects of a SIF. Raises ImageError for a file that is none."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
        if header[32:42] != _MAGIC:
            raise ImageError(f"{path} is not a SIF; build one: foreshock image build")
        _, _, _, total, offset, _, _, _ = struct.unpack_from("<8q", header, _TIMES)
        file.seek(offset)
        table = file.read(total * _DESCRIPTOR)
    found = []
    for start in range(0, len(table) - _DESCRIPTOR + 1, _DESCRIPTOR):
        data_type, used = struct.unpack_from("<i?", table, start)
        if used:
            at, size = struct.unpack_from("<2q", table, start + 17)
            found.append(SifObject(data_type, at, size))
    return found


def is_signed(path: Path) -> bool:
    """Whether a SIF carries a signature, whoever made it."""
    return any(part.data_type == _SIGNATURE for part in sif_objects(path))
