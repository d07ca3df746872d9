"""Parts of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple


class Place(NamedTuple):
    """Where bytes lie."""

    path: Path
    start: int
    size: int

    @classmethod
    def whole(cls, path: Path) -> Place:
        """All of a file. Raises OSError."""
        return cls(path, 0, path.stat().st_size)

    def read(self) -> bytes:
        """Raises OSError, also where the file ends early."""
        with self.path.open("rb", buffering=0) as file:
            return read_at(file, self.start, self.size)


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """So many bytes from `start` on. Raises OSError where the file ends early."""
    pieces: list[bytes] = []
    while size and (piece := os.pread(file.fileno(), size, start)):
        pieces.append(piece)
        start, size = start + len(piece), size - len(piece)
    if size:
        raise OSError(f"{file.name}: ends early")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
