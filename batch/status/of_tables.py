"""The state of a run that foreshock did not plan: what its tables hold.

Without a plan nobody knows how many rows there should be, so the total is the number found and the status says `no
plan` unless the run's own status.json says more.
"""

from __future__ import annotations

from foreshock.batch.status.document import CellStatus, RunStatus, status_document, unread_notes
from foreshock.jobs.records.jsonl import read_jsonl
from foreshock.jobs.records.layout import CellFile, RunLayout
from foreshock.jobs.records.rows import error_of
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.records.verdicts import UNREAD


def has_tables(layout: RunLayout) -> bool:
    """Whether there is anything to count although there is no plan."""
    return not layout.plan.is_file() and bool(layout.eval_files() or layout.logprob_files())


def status_of_tables(layout: RunLayout) -> RunStatus:
    """Cells and rows of the files present. Raises InputError naming the line of a row that cannot be read."""
    files = [(JobKind.EVAL, file) for file in layout.eval_files()]
    files += [(JobKind.LOGPROB, file) for file in layout.logprob_files()]
    files += [(JobKind.REF_LOGPROB, file) for file in layout.ref_logprob_files()]
    files += [(JobKind.GROUND_TRUTH, file) for file in layout.ground_truth_files()]
    cells = [_cell(kind, file) for kind, file in files]
    document = status_document(layout)
    rows = sum(cell.rows_done for cell in cells)
    return RunStatus(
        run=layout.name,
        status=str(document.get("status", "no plan")),
        exit_reason=document.get("exit_reason"),
        rows_total=rows,
        rows_done=rows,
        rows_per_second=None,
        eta_seconds=None,
        cells=cells,
        tasks=[],
        failures=[],
        notes=unread_notes(cells),
    )


def _cell(kind: JobKind, file: CellFile) -> CellStatus:
    cell = CellStatus(kind.value, file.cell.checkpoint, file.cell.level, state="done")
    for _, row in read_jsonl(file.path):
        cell.rows_total += 1
        if error_of(row) is not None:
            cell.n_errors += 1
            cell.state = "failed"
            continue
        cell.rows_done += 1
        cell.exploits += row.get("exploit_success") is True
        cell.unread += row.get("code_status") in UNREAD
    return cell
