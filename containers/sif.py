"""What of a SIF's header differs between two builds of the same contents: its id, times and the builder's user.

Layout of version 01 of the format (github.com/apptainer/sif, pkg/sif): a header of 128 bytes, then descriptors of 585.
The fields are set to what that library's own deterministic mode writes (a zero id), with the build's epoch as the time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from foreshock.containers.errors import ImageError

_MAGIC = b"SIF_MAGIC\0"
_HEADER = 128
_DESCRIPTOR = 585
_ID = slice(48, 64)
_TIMES = 64
"""Eight int64: created, modified, descriptors free, total, offset, size; data offset, size."""
_DESCRIPTOR_TIMES = 41
"""Four int64 of a descriptor: created, modified, user and group id."""
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


def normalise(path: Path, epoch: int) -> None:
    """Set id, times and user of an unsigned SIF to what is the same in every build. Raises ImageError."""
    if is_signed(path):
        raise ImageError(f"{path} is signed; a change would break the signature")
    with path.open("r+b") as file:
        header = bytearray(file.read(_HEADER))
        _, _, _, total, offset, _, _, _ = struct.unpack_from("<8q", header, _TIMES)
        header[_ID] = bytes(16)
        struct.pack_into("<2q", header, _TIMES, epoch, epoch)
        file.seek(offset)
        table = bytearray(file.read(total * _DESCRIPTOR))
        for start in range(0, len(table) - _DESCRIPTOR + 1, _DESCRIPTOR):
            if struct.unpack_from("<i?", table, start)[1]:
                struct.pack_into("<4q", table, start + _DESCRIPTOR_TIMES, epoch, epoch, 0, 0)
        file.seek(0)
        file.write(header)
        file.seek(offset)
        file.write(table)
