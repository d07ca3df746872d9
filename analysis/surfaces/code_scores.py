"""How much likelier the problems' own exploit code has become since the first checkpoint, by exploit type.

The same code after the same words is scored at every checkpoint, so the change has no sampling noise. After honest
reasoning it moves where hacks are not verbalised. It is a score, not a rate (docs/early-warning.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.tables import numbered_checkpoints
from foreshock.analysis.tables.exploit_code import after, has_exploit_code, load_exploit_code
from foreshock.jobs.records.rows import HONEST

COLUMNS = ("exploit_type", "checkpoint", "n_tasks", "code_logprob", "code_change", "code_change_se")


def code_signals(run_dir: Path, before: str = HONEST) -> pd.DataFrame:
    """One row per exploit type and checkpoint of a run that scored its exploit code after `before`, EMPTY or HONEST
    reasoning; empty where it did not.

    code_logprob: mean of log P(code), nats. code_change: its mean change since the first checkpoint, over the tasks
    scored at both; code_change_se: standard error over tasks (NaN with one).
    """
    empty = pd.DataFrame({name: np.zeros(0) for name in COLUMNS})
    if not has_exploit_code(run_dir):
        return empty
    rows = numbered_checkpoints(after(load_exploit_code(run_dir), before)).dropna(subset=["exploit_logprob_sum"])
    if rows.empty:
        return empty
    return changes(rows)


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """The table of `code_signals` from rows of one kind: checkpoint, task_id, exploit_type, exploit_logprob_sum."""
    first = rows[rows["checkpoint"] == rows["checkpoint"].min()].set_index("task_id")["exploit_logprob_sum"]
    kept = rows.assign(change=rows["exploit_logprob_sum"] - rows["task_id"].map(first)).dropna(subset=["change"])
    out = kept.groupby(["exploit_type", "checkpoint"], as_index=False).agg(
        n_tasks=("task_id", "size"),
        code_logprob=("exploit_logprob_sum", "mean"),
        code_change=("change", "mean"),
        code_change_se=("change", "sem"),
    )
    return out[list(COLUMNS)]
