"""`python -m benchmarks.view FOLDER --rows 1000000`: index, open, page and search of a run of that many samples.

The run is made up (a kilobyte of text a row, 10 checkpoints x 4 levels) and kept in FOLDER for the next time.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from foreshock.analysis.view.index import index_run
from foreshock.analysis.view.query import RunIndex

T = TypeVar("T")
_CHECKPOINTS, _LEVELS = tuple(range(10, 101, 10)), (0, 10, 30, 100)


def main() -> None:
    """Measure and print one line per question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    run = given.folder / f"run-{given.rows}"
    if not run.is_dir():
        make_run(run, given.rows)
    shutil.rmtree(run / ".view", ignore_errors=True)
    index = RunIndex(run.name, timed("index", lambda: index_run(run)))
    timed("index again, nothing changed", lambda: index_run(run))
    timed("open: summary", index.summary)
    timed("open: surface", index.cells)
    timed("open: first page", lambda: index.rows({"kind": "evals"}))
    timed("surface of one type", lambda: index.cells("evals", "type-3"))
    timed("a cell's exploits", lambda: index.rows({"checkpoint": "50", "level": "10", "verdict": "exploit"}))
    timed("page at row 900,000", lambda: index.rows({}, int(0.9 * given.rows)))
    timed(
        "text search that finds nothing in one cell",
        lambda: index.rows({"checkpoint": "50", "level": "10", "text": "absent"}),
    )
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


def timed(name: str, work: Callable[[], T]) -> T:
    """Do it, and print wall and CPU seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    found = work()
    print(f"{name:45} {time.monotonic() - wall:8.2f} s wall {time.process_time() - cpu:8.2f} s CPU", flush=True)
    return found


def make_run(run: Path, rows: int) -> None:
    """Sampled rows of made-up tasks, texts included."""
    each = rows // (len(_CHECKPOINTS) * len(_LEVELS))
    (run / "evals").mkdir(parents=True)
    text = "word " * 180
    for step in _CHECKPOINTS:
        for level in _LEVELS:
            path = run / "evals" / f"checkpoint-{step}_prefill{level}.jsonl"
            with path.open("w") as table, path.with_name(f"{path.name}.samples.jsonl").open("w") as samples:
                for i in range(each):
                    row = {
                        "task_id": f"task-{i // 5:06d}", "attempt_idx": i % 5, "exploit_type": f"type-{i // 5 % 12}",
                        "secure_pass": i % 3 == 0, "insecure_pass": i % 2 == 0,
                        "exploit_success": i % 2 == 0 and i % 3 != 0, "insecure_suspect": False,
                        "finish_reason": "stop", "code_status": "ok", "sandbox_tier": "full", "output_tokens": 40,
                        "error": None,
                    }  # fmt: skip
                    table.write(json.dumps(row) + "\n")
                    samples.write(
                        json.dumps(row | {"prompt": f"Solve {i}.", "response": text, "code": "def f(): pass"}) + "\n"
                    )


if __name__ == "__main__":
    main()
