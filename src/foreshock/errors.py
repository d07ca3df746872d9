"""The errors that users see: a message, no traceback, and an exit code.

Everything else that escapes a command is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class ForeshockError(Exception):
    """A failure that the message explains in full. The command line prints it and exits with `exit_code`."""

    exit_code = 1


class InputError(ForeshockError, ValueError):
    """Something the user gave is wrong: a file, a line, a key, an option. Exit code 2."""

    exit_code = 2

    def __init__(self, problem: str, *, path: Path | None = None, line: int | None = None, fix: str | None = None):
        """`problem` says what is wrong and what would be valid; `fix` names the next command or step."""
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + problem + (f"\n  -> {fix}" if fix else ""))
        self.path = path
        self.line = line


class DiskFullError(ForeshockError, OSError):
    """A file could not be written because its file system, or a quota on it, is full."""

    def __init__(self, path: Path | str, error: OSError) -> None:
        """`error` is what the system said."""
        super().__init__(
            f"{path}: cannot be written: {error.strerror}\n"
            "  -> make room (df -h, quota), then repeat the command, or for a run: foreshock resume RUN_DIR; what is "
            "finished is kept"
        )
        self.errno = error.errno


class StopRequestedError(ForeshockError):
    """Stopped on request with everything finished so far on disk. Exit code 130, as shells report Ctrl-C."""

    exit_code = 130
