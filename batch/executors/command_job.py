"""A command that is done by one job: what it is to do, and the folder that holds everything about it.

The folder holds `command.json`, what the command reads of its own (`config.yaml`), progress, logs and the journal of
submissions, as a run's directory does. What the command makes lies elsewhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json

TASK = 0
"""The one task of a job's array of one element."""


@dataclass(frozen=True, slots=True)
class CommandJob:
    """command: its name on the command line; arguments: its values as plain data; title: for people who look at the
    queue; unit: what its progress counts. models, writes: what an image has to see. locks: those that it takes."""

    command: str
    arguments: dict[str, Any]
    title: str
    unit: str
    profile: str
    models: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Keep it in its folder."""
        write_json(command_file(folder), asdict(self))

    @classmethod
    def read(cls, folder: Path) -> CommandJob:
        """What `write` kept. Raises InputError for a folder without it, and for a damaged one."""
        data = read_json(command_file(folder))
        try:
            listed = {name: tuple(data[name]) for name in ("models", "writes", "locks")}
            return cls(**data | listed)
        except (KeyError, TypeError) as error:
            raise InputError(f"not a command's job: {error!r}", path=command_file(folder)) from None


def command_file(folder: Path) -> Path:
    """Where a job's command is kept."""
    return folder / "command.json"


def is_command_job(folder: Path) -> bool:
    """Whether a folder is that of a command's job."""
    return command_file(folder).is_file()
