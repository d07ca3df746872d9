"""Finding a run's row files by name.

Names are read leniently (`checkpoint-7_prefill10.jsonl` inside logprob/, `final_prefill10`,
`checkpoint-final_prefill10`), because other tools write them, but a file whose name says neither checkpoint nor level
is listed as ignored, never guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from foreshock.analysis.tables.schema import TableKind
from foreshock.errors import InputError
from foreshock.jobs.records.table_files import table_names
from foreshock.jobs.records.table_gaps import HOW_TO_FILL, find_gaps

_NAME = re.compile(
    r"^(?:checkpoint-(?P<step>\d{1,15})|(?:checkpoint-)?final)_prefill(?P<level>\d{1,9})(?:_logprobs|_kl)?\.jsonl$"
)
_WHENCE = {
    "logprob": "foreshock analyse RUN computes log-probabilities where the checkpoints are at hand",
    "kl": "give the traces' donor as logprob.reference in the sweep",
    "ref_logprob": "give the traces' donor as logprob.reference in the sweep",
}
"""How a run comes by scores that it lacks. A folder without files is no folder."""
_BOOKKEEPING = (".samples.jsonl", ".manifest.json")


@dataclass(frozen=True, slots=True)
class CellFiles:
    """All files of one kind that hold rows of one (checkpoint, level); nearly always one file."""

    checkpoint: float
    prefill_level: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The row files of one kind in one run, sorted by checkpoint and level. `absent`: cells of the sweep that the run's
    plan has and for which there is no file."""

    directory: Path
    cells: tuple[CellFiles, ...]
    ignored: tuple[str, ...]
    absent: tuple[tuple[float, int], ...] = ()


def parse_cell_name(name: str) -> tuple[float, int] | None:
    """(step, level) of a row file's name; step is infinity for `final`. None for any other name."""
    match = _NAME.match(name)
    if match is None:
        return None
    step = match["step"]
    return (float("inf") if step is None else float(step), int(match["level"]))


def find_run_files(run_dir: Path, kind: TableKind) -> RunFiles:
    """The files of `kind` under `run_dir`; a directory that itself holds such files is taken as it is.

    Raises:
        InputError: the directory is missing, or holds no row file.
    """
    if not run_dir.is_dir():
        raise InputError("no such directory; name a run directory (`foreshock ls` lists them)", path=run_dir)
    directory = run_dir / kind.value
    if kind.value in _WHENCE and has_files(run_dir, TableKind.EVAL) and not has_files(run_dir, kind):
        if directory.is_dir():
            refuse_packed(directory)
        raise InputError(f"this run has no rows in {kind.value}/", path=run_dir, fix=_WHENCE[kind.value])
    if not directory.is_dir():
        if not any(map(parse_cell_name, table_names(run_dir))):
            raise InputError(
                f"no {kind.value}/ folder here and no checkpoint-N_prefillL*.jsonl files; "
                "name a run directory (it holds config.yaml and evals/)",
                path=run_dir,
            )
        directory = run_dir
    refuse_packed(directory)
    grouped: dict[tuple[float, int], list[Path]] = {}
    ignored = []
    for name in table_names(directory):
        if name.endswith(_BOOKKEEPING):
            continue
        cell = parse_cell_name(name)
        if cell is None:
            ignored.append(name)
        else:
            grouped.setdefault(cell, []).append(directory / name)
    absent: tuple[tuple[float, int], ...] = ()
    if kind is TableKind.EVAL:
        run = directory.parent if directory.name == kind.value else directory
        absent = _refuse_none(run, grouped=bool(grouped))
    if not grouped:
        found = f"; found only {ignored[0]!r}" if ignored else ""
        raise InputError(
            f"no row files here{found}; valid names: checkpoint-N_prefillL.jsonl, final_prefillL.jsonl, "
            "with _logprobs or _kl before .jsonl where they apply",
            path=directory,
        )
    cells = tuple(CellFiles(step, level, tuple(paths)) for (step, level), paths in sorted(grouped.items()))
    return RunFiles(directory, cells, tuple(ignored), absent)


def _refuse_none(run: Path, *, grouped: bool) -> tuple[tuple[float, int], ...]:
    """Cells that the plan has and evals/ lacks. Raises InputError where it has none of them at all."""
    gaps = find_gaps(run)
    if gaps.no_table and not grouped:
        raise InputError(
            f"none of the {gaps.n_planned:,} planned cells has a table here",
            path=run / TableKind.EVAL.value,
            fix=HOW_TO_FILL,
        )
    parsed = (parse_cell_name(f"{name}_prefill{level}.jsonl") for name, level in gaps.no_table)
    return tuple(cell for cell in parsed if cell is not None)


def refuse_packed(directory: Path) -> None:
    """A cell that is there but packed must not look like one that was never measured: raises InputError for one."""
    packed = [path for path in sorted(directory.glob("*.jsonl.gz")) if parse_cell_name(path.stem) is not None]
    if packed:
        raise InputError(
            f"{len(packed)} row files are packed, e.g. {packed[0].name}; tables are read where they lie",
            path=directory,
            fix=f"gunzip {directory}/*.gz",
        )


def has_files(run_dir: Path, kind: TableKind) -> bool:
    """Whether `run_dir` holds any row file of `kind` in its folder."""
    return any(map(parse_cell_name, table_names(run_dir / kind.value)))
