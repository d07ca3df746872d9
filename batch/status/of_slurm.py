"""What Slurm adds to a run's status: which cells are queued, running, preempted or failed.

The controller is asked at most twice a minute, however often a watcher redraws. Between two questions the counts from
the store, which are free, are what moves.
"""

from __future__ import annotations

import time
from pathlib import Path

from foreshock.batch.executors.slurm_reports import IsComplete, SlurmReport, SlurmTask, task_reports
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobSpec
from foreshock.slurm.states import JobState

_ASK_EVERY_S = 30.0
_SEVERITY = ("failed", "unknown", "preempted", "queued", "running")  # later ones win in a cell of several shards
_asked: dict[Path, tuple[float, SlurmReport]] = {}

CellKey = tuple[str, str, int | None]


def slurm_report(layout: RunLayout, is_complete: IsComplete | None = None) -> SlurmReport:
    """`task_reports` of the run, at most half a minute old; empty for a run that was never submitted."""
    root = layout.root.absolute()
    if not (root / "slurm").is_dir():
        return SlurmReport()
    when, report = _asked.get(root, (0.0, SlurmReport()))
    if time.monotonic() - when > _ASK_EVERY_S or root not in _asked:
        report = task_reports(layout, is_complete=is_complete)
        _asked[root] = (time.monotonic(), report)
    return report


def cell_key(spec: JobSpec) -> CellKey:
    """The cell that status shows a spec under; logprob specs span levels."""
    return (spec.kind.value, spec.checkpoint.name, spec.levels[0] if spec.kind in SAMPLED_KINDS else None)


def cell_states(tasks: list[SlurmTask]) -> dict[CellKey, str]:
    """running, queued, preempted, unknown or failed for every cell with work in Slurm that is not whole."""
    latest: dict[str, tuple[JobSpec, str]] = {}
    for task in tasks:  # oldest pack first: a later submission of the same spec replaces the earlier one's state
        word = _word(task)
        for spec in task.specs:
            if word is None:
                latest.pop(spec.key(), None)
            else:
                latest[spec.key()] = (spec, word)
    states: dict[CellKey, str] = {}
    for spec, word in latest.values():
        key = cell_key(spec)
        if key not in states or _SEVERITY.index(word) > _SEVERITY.index(states[key]):
            states[key] = word
    return states


def _word(task: SlurmTask) -> str | None:
    match task.report.state:
        case JobState.COMPLETED:
            return None
        case JobState.RUNNING:
            return "running"
        case JobState.PENDING:
            return "preempted" if task.attempts > 1 else "queued"
        case JobState.PREEMPTED:
            return "preempted"
        case JobState.UNKNOWN:
            return "unknown"
        case _:
            return "failed"


def failures(tasks: list[SlurmTask]) -> list[str]:
    """One text a task that ended without its shards, unless a later pack took its specs over."""
    newest = {spec.key(): task.pack for task in tasks for spec in task.specs}
    texts = []
    for task in tasks:
        report = task.report
        superseded = all(newest[spec.key()] > task.pack for spec in task.specs)
        if superseded or not report.state.is_final or report.state is JobState.COMPLETED:
            continue
        code = f", exit code {report.exit_code}" if report.exit_code else ""
        where = f"; log: {task.log}" if task.log else ""
        texts.append(f"task {task.pack}/{report.index} ({task.job or 'no job'}) {report.state.value}{code}{where}\n"
                     + (report.detail or "no message"))  # fmt: skip
    return texts
