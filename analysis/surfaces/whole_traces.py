"""How much likelier whole exploit traces have become since the first checkpoint, by exploit type.

The same traces are scored at every checkpoint, so their change is known far better than a small rate: log P(trace)
moves with the log of the unprompted rate and has no sampling noise of its own. It is a score, not a rate: how many nats
mean danger is set by false alarms (docs/early-warning.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.tables import TableKind, load_logprobs, numbered_checkpoints
from foreshock.analysis.tables.files import has_files

COLUMNS = ("exploit_type", "checkpoint", "n_traces", "trace_logprob", "trace_change", "trace_change_se", "code_change")


def trace_signals(run_dir: Path) -> pd.DataFrame:
    """One row per exploit type and checkpoint of a run with `logprob.whole_trace`; empty where no trace was scored.

    trace_logprob: mean of log P(whole trace), nats. trace_change: its mean change since the first checkpoint, over the
    traces scored at both; trace_change_se: standard error over tasks (NaN with one); code_change: the exploit code's
    part of it.
    """
    empty = pd.DataFrame({name: np.zeros(0) for name in COLUMNS})
    if not has_files(run_dir, TableKind.LOGPROB):
        return empty
    rows = numbered_checkpoints(load_logprobs(run_dir))
    if "trace_logprob_sum" not in rows:
        return empty
    rows = rows[np.isfinite(rows["trace_logprob_sum"].astype(float))]
    if rows.empty:
        return empty
    kept = rows[["checkpoint", "task_id", "exploit_type", "attempt_idx", "trace_logprob_sum", "trace_code_logprob"]]
    kept = kept.astype({"task_id": str, "exploit_type": str})
    first = kept[kept["checkpoint"] == kept["checkpoint"].min()].drop_duplicates(["task_id", "attempt_idx"])
    joined = kept.merge(
        first[["task_id", "attempt_idx", "trace_logprob_sum", "trace_code_logprob"]],
        on=["task_id", "attempt_idx"],
        suffixes=("", "_first"),
    ).drop_duplicates(["checkpoint", "task_id", "attempt_idx"])
    joined = joined.assign(
        change=joined["trace_logprob_sum"] - joined["trace_logprob_sum_first"],
        code=joined["trace_code_logprob"] - joined["trace_code_logprob_first"],
    )
    by_task = joined.groupby(["exploit_type", "checkpoint", "task_id"], as_index=False).agg(
        trace=("trace_logprob_sum", "mean"), change=("change", "mean"), code=("code", "mean"), n=("change", "size")
    )
    out = by_task.groupby(["exploit_type", "checkpoint"], as_index=False).agg(
        n_traces=("n", "sum"),
        trace_logprob=("trace", "mean"),
        trace_change=("change", "mean"),
        trace_change_se=("change", "sem"),
        code_change=("code", "mean"),
    )
    return out[list(COLUMNS)]
