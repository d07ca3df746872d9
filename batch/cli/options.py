"""Options that several commands have, and choices and lists read from their text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from foreshock.errors import InputError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace output that is there.")]
RunDirArgument = Annotated[Path | None, typer.Argument(help="Run directory; default: the newest.")]
ResultsOption = Annotated[Path, typer.Option("--results-dir", help="Folder of results.")]
CheckpointsOption = Annotated[
    list[str] | None, typer.Option("--checkpoint", help="Only this one: name or step; repeatable. Default: all.")
]
DonorConditionedOption = Annotated[
    bool,
    typer.Option(
        "--donor-conditioned/--donor-unconditioned",
        help="Whether the prefill source kept only traces that ended in an exploit.",
    ),
]
ProblemsOption = Annotated[str, typer.Option("--problems", help="builtin, a JSONL or parquet file.")]
SplitOption = Annotated[str, typer.Option("--split", help="Split of the problems, where their source has several.")]
MaxProblemsOption = Annotated[
    int | None, typer.Option("--max-problems", min=1, help="Only the first so many problems.")
]
InstructionsOption = Annotated[str, typer.Option("--instructions", help="full, bare, djinn, or a text file.")]
ScoreTemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 counts as 1.")
]

Choice = TypeVar("Choice", bound=StrEnum)


def one_of(option: str, value: str, choices: type[Choice]) -> Choice:
    """The choice that an option's text names. Raises InputError for any other."""
    if value not in list(choices):
        raise InputError(f"{option} is {value!r}; valid: {', '.join(choices)}", fix=f"give {option} one of these")
    return choices(value)


def listed(text: str | None) -> list[str]:
    """The parts of a list with commas, without blanks and empty ones."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
