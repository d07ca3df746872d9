"""The measured steps. A module of their own, because spawned processes cannot import a package's __main__."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path


def count(run: Path) -> int:
    """Stream to counts."""
    from foreshock.analysis.tables import count_cells

    return int(count_cells(run)["n"].sum())


def trajectory(run: Path) -> int:
    """Counts, min prefill, accessibility and time to threshold of every task."""
    from foreshock.analysis.tables import count_tasks
    from foreshock.analysis.trajectory import TrajectoryOptions, compute_trajectory

    tasks = count_tasks(run)
    compute_trajectory(tasks, TrajectoryOptions())
    return int(tasks["n"].sum())


def load(run: Path) -> int:
    """The whole table in memory."""
    from foreshock.analysis.tables import load_evals

    return len(load_evals(run))


def measured(step: Callable[[Path], int], run: Path) -> dict[str, object]:
    """Run one step and report its cost."""
    began = time.perf_counter()
    rows = step(run)
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss / 2**20
    return {
        "step": step.__name__,
        "rows": rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "rows_per_second": int(rows / seconds),
        "peak_gib": round(peak, 2),
    }
