"""Changes of whole traces are of the same traces, by type and checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.analysis.surfaces.whole_traces import COLUMNS, trace_signals
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout


def _row(task: str, kind: str, trace: float | None, code: float | None, attempt: int = 0) -> dict[str, object]:
    return {
        "task_id": task,
        "exploit_type": kind,
        "attempt_idx": attempt,
        "prefill_logprob_sum": -5.0,
        "prefill_applied": True,
        "trace_logprob_sum": trace,
        "trace_code_logprob": code,
    }


def test_changes_are_paired_by_trace_and_averaged_over_tasks(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    first = [_row("a", "x", -20.0, -4.0), _row("b", "x", -30.0, -6.0), _row("c", "y", -9.0, -1.0)]
    later = [
        _row("a", "x", -18.0, -4.0),
        _row("b", "x", -24.0, -5.0),
        _row("c", "y", None, None),
        _row("d", "x", -1, -1),
    ]
    write_jsonl(layout.logprob_file("checkpoint-1", 10), first)
    write_jsonl(layout.logprob_file("checkpoint-8", 10), later)
    write_jsonl(layout.logprob_file("checkpoint-8", 2), [_row("a", "x", None, None)])
    found = trace_signals(layout.root).set_index(["exploit_type", "checkpoint"])
    assert found.loc[("x", 8), "trace_change"] == pytest.approx(4.0)
    assert found.loc[("x", 8), "code_change"] == pytest.approx(0.5)
    assert found.loc[("x", 8), "trace_change_se"] == pytest.approx(2.0)
    assert found.loc[("x", 8), "n_traces"] == 2, "a trace that the first checkpoint lacks has no change"
    assert found.loc[("x", 1), "trace_change"] == 0
    assert ("y", 8) not in found.index


def test_a_run_without_such_scores_has_none(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    assert list(trace_signals(layout.root).columns) == list(COLUMNS)
    row = {key: value for key, value in _row("a", "x", None, None).items() if not key.startswith("trace")}
    write_jsonl(layout.logprob_file("checkpoint-1", 10), [row])
    assert trace_signals(layout.root).empty
