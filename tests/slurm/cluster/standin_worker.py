"""Stand-in for a worker: batches of rows that take a while, written atomically, stopped by a flag.

`standin_worker.py RUN_DIR --pack P --task I`. RUN_DIR/standin.json says {"batches": n, "seconds": s}; a task may be
told to misbehave by a file RUN_DIR/misbehave-I holding `exit N`, `die-early` or `idle`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

ROWS = 4  # a batch


def write(path: Path, data: object) -> None:
    """Atomic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=2))
    temporary.replace(path)


def main() -> int:
    """Run one task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--pack", type=int)
    parser.add_argument("--task", type=int)
    arguments = parser.parse_args()
    run, task = arguments.run_dir, arguments.task
    trick = run / f"misbehave-{task}"
    order = trick.read_text().split() if trick.exists() else []
    if order[:1] == ["exit"]:
        return int(order[1])
    if order[:1] == ["die-early"]:  # a stop request before the handler exists
        trick.unlink()
        os.kill(os.getpid(), signal.SIGUSR2)
    stop: list[int] = []
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, lambda n, frame: stop.append(n))
    plan = json.loads((run / "standin.json").read_text())
    started, done, resumed = time.time(), 0, 0
    for batch in range(plan["batches"]):
        path = run / "rows" / f"{task:05d}-{batch:03d}.json"
        done += ROWS
        if path.exists():
            resumed += ROWS
            continue
        with (run / f"generated-{task:05d}").open("a") as log:  # one line a batch generated, for counting repeats
            log.write(f"{batch} {os.getpid()}\n")
        time.sleep(plan["seconds"])
        if order[:1] == ["idle"]:
            return 75
        write(path, {"task": task, "batch": batch, "rows": [task * 1000 + batch * ROWS + i for i in range(ROWS)]})
        write(
            run / "progress" / f"task-{task:05d}.json",
            {"pack": 0, "rows_done": done, "rows_resumed": resumed, "started": started, "updated": time.time()},
        )
        if stop and batch + 1 < plan["batches"]:
            return 75
    return 0


if __name__ == "__main__":
    sys.exit(main())
