"""The measured steps. A module of their own, because spawned processes cannot import a package's __main__."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
    from foreshock.analysis.estimates.rates import estimate_rates
    from foreshock.analysis.evidence.load import load_evidence

    evidence = load_evidence([run]).evidence
    estimate_rates(evidence)
    return int(evidence.n.sum())


def analyse_run(run: Path) -> int:
    """Everything that follows a run, report included."""
    from foreshock.batch.config_file import parse_config
    from foreshock.batch.running.analyse import analyse, settings_of
    from foreshock.jobs.records.layout import RunLayout

    source = run / "traces.jsonl"
    config = parse_config({"name": "scale", "checkpoints": {"dir": str(run)}, "prefill": {"source": str(source)}})
    done = analyse([RunLayout(run)], settings_of(config), run / "analysis", run / "report.html", lambda said: None)
    print("\n".join(done.notes), end="", file=sys.stderr)
    return done.report.stat().st_size


def finish_run(run: Path) -> int:
    """Shards to report: what a run does after its last shard."""
    return write_tables(run) and analyse_run(run)


def measured(step: Callable[[Path], int], run: Path) -> dict[str, object]:
    """Run one step and report its cost."""
    done = threading.Event()
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as threads:
        peak = threads.submit(_peak_bytes, done)
        try:
            size = step(run)
        finally:
            done.set()
    seconds = time.perf_counter() - began
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "step": step.__name__,
        "size": size,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in (own, children)), 1),
        "peak_gib": round(peak.result() / 2**30, 2),
    }


def _peak_bytes(done: threading.Event) -> int:
    """Most bytes that this process and its children held together, seen twenty times a second."""
    most = 0
    while not done.wait(0.05):
        most = max(most, sum(map(_resident_bytes, [os.getpid(), *_children(os.getpid())])))
    return most


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        with suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found


def _resident_bytes(process: int) -> int:
    """Pages shared with other processes included."""
    with suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
