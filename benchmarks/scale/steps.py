"""The measured steps. A module of their own, because spawned processes cannot import a package's __main__."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def write_tables(run: Path) -> int:
    """Shards to tables."""
    from foreshock.analysis.aggregate import aggregate
    from foreshock.jobs.records.layout import RunLayout

    report = aggregate(RunLayout(run))
    return report.n_eval + report.n_logprob + report.n_ref_logprob + report.n_kl


def count(run: Path) -> int:
    """Stream to counts."""
    from foreshock.analysis.tables import count_cells

    return int(count_cells(run)["n"].sum())


def load(run: Path) -> int:
    """The whole table in memory."""
    from foreshock.analysis.tables import load_evals

    return len(load_evals(run))


def rates(run: Path) -> int:
    """`foreshock rates`: every method in every cell."""
    from foreshock.analysis.estimates.load import load_evidence
    from foreshock.analysis.estimates.rates import estimate_rates

    evidence = load_evidence([run]).evidence
    estimate_rates(evidence)
    return int(evidence.n.sum())


def analyse_run(run: Path) -> int:
    """Everything that follows a run, report included."""
    from foreshock.batch.analyse import analyse
    from foreshock.batch.config import parse_config
    from foreshock.jobs.records.layout import RunLayout

    source = run / "traces.jsonl"
    config = parse_config({"name": "scale", "checkpoints": {"dir": str(run)}, "prefill": {"source": str(source)}})
    done = analyse([RunLayout(run)], config, run / "analysis", run / "report.html", lambda said: None)
    print("\n".join(done.notes), end="", file=sys.stderr)
    return done.report.stat().st_size


def measured(step: Callable[[Path], int], run: Path) -> dict[str, object]:
    """Run one step and report its cost."""
    began = time.perf_counter()
    size = step(run)
    seconds = time.perf_counter() - began
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = own.ru_maxrss + len(os.sched_getaffinity(0)) * children.ru_maxrss  # at most: that of the largest, each
    return {
        "step": step.__name__,
        "size": size,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in (own, children)), 1),
        "peak_gib": round(peak / 2**20, 2),
    }
