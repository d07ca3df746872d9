"""The one error that means "your input, not our code": the command line prints it without a traceback.

The hard decision: analysis never guesses past a broken line. It names the file, the line, the offending value,
what would be valid and what to do next, and stops.
"""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """A file or argument that cannot be used as it is. `str()` is the complete message for the user."""

    def __init__(self, message: str, path: Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        super().__init__(place + message)
        self.path = path
        self.line = line
