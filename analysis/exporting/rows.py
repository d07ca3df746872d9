"""The tables of a run that exporters go through, with the texts that lie beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.analysis.tables import TableKind
from foreshock.analysis.tables.files import find_run_files, has_files
from foreshock.jobs.records.checkpoint_names import result_step
from foreshock.jobs.records.layout import RunLayout, checkpoint_files
from foreshock.jobs.records.sampled_rows import SampledTable

SAMPLED = (TableKind.EVAL, TableKind.EXTRA, TableKind.GROUND_TRUTH)
SCORED = (TableKind.LOGPROB, TableKind.REF_LOGPROB, TableKind.KL)


@dataclass(frozen=True, slots=True)
class CellRows:
    """One table, with what its name says."""

    kind: TableKind
    path: Path
    checkpoint: float
    level: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """Its rows in order. Raises InputError naming a line that is not one JSON object."""
        return SampledTable.of(self.path).rows()


def row_files(run_dir: Path, kinds: tuple[TableKind, ...]) -> list[CellRows]:
    """Every row file of `kinds`. Raises InputError if the run has no evals."""
    find_run_files(run_dir, TableKind.EVAL)  # a folder that is not a run is an error, whatever is asked for
    found = []
    for kind in kinds:
        if not has_files(run_dir, kind):
            continue
        for cell in find_run_files(run_dir, kind).cells:
            found += [CellRows(kind, path, cell.checkpoint, cell.prefill_level) for path in cell.paths]
    return found


def code_files(run_dir: Path) -> list[CellRows]:
    """Scores of exploit code, a file a checkpoint; they are scores of forced text at level 0."""
    found = []
    for name, path in checkpoint_files(RunLayout(run_dir).exploit_logprob):
        step = result_step(name)
        found.append(CellRows(TableKind.LOGPROB, path, float("inf") if step is None else float(step), 0))
    return found


def clean(text: str) -> str:
    """Text that UTF-8 can hold: half of a surrogate pair, which a model can write, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
