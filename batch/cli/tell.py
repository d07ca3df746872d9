"""Sentences on the terminal. Names in them are other people's: control characters are written out, never sent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer


def visible(text: str) -> str:
    """Text whose control characters, line ends and tabs apart, are written out."""
    return "".join(c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell_findings(sentences: Iterable[str]) -> None:
    """Print what was found, a line each."""
    _tell("-", sentences)


def tell_notes(notes: Iterable[str], *, err: bool = False) -> None:
    """Print what a reader of the result must know."""
    _tell("note:", notes, err=err)


def tell_warnings(warnings: Iterable[str]) -> None:
    """Print on standard error what makes a result another than it seems."""
    _tell("warning:", warnings, err=True)


def tell_gaps(*runs: Path) -> None:
    """Warn of what each run's evals lack. Raises InputError for an archive that cannot be read."""
    from foreshock.jobs.records.table_gaps import gap_lines

    for run in runs:
        tell_warnings(f"{run.resolve().name}: {line}" for line in gap_lines(run))


def _tell(mark: str, lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        typer.echo(visible(f"{mark} {line}"), err=err)
