"""Memory over many samples of one checkpoint: `python -m benchmarks.throughput.soak [--samples 100000]`.

A worker with vLLM and the real verifier; resident memory of the worker, of vLLM's core and of the rest (verification
workers, forked helpers) while rows come in. Bounded memory stays level from the first tenth on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import yaml
from benchmarks.throughput.world import SHAPES, make_world

LEVELS = [0, 2, 5, 10, 20, 30]
MIB = 2**20


def main() -> None:
    """Run the worker and watch it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--engine", default="{}", metavar="JSON", help="options of the vllm engine")
    options = parser.parse_args()
    attempts = math.ceil(options.samples / options.problems / len(LEVELS))
    with tempfile.TemporaryDirectory(prefix="soak-") as scratch:
        folder = Path(scratch)
        world = make_world(folder, options.shape, 1, options.problems, attempts, "float32")
        engine = {"name": "vllm", "dtype": "float32", "options": json.loads(options.engine)}
        config = world.config(LEVELS, attempts, options.max_tokens, engine).to_yaml_dict()
        config["execution"]["max_minutes"] = 1e5  # all in one task, by one engine
        path = folder / "soak.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        command = [sys.executable, "-m", "benchmarks.throughput.ours", str(path)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            watch(process, folder, attempts * options.problems * len(LEVELS))
    sys.exit(process.returncode)


def watch(process: subprocess.Popen[bytes], folder: Path, total: int) -> None:
    """A line of the table at every tenth of the rows."""
    print("| rows | s | worker, MiB | vLLM's core, MiB | others, MiB |\n|---|---|---|---|---|")
    started, shown, most = time.monotonic(), 0, [0, 0, 0]
    while process.poll() is None:
        time.sleep(0.5)
        sizes = resident(process.pid)
        most = [max(pair) for pair in zip(most, sizes, strict=True)]
        rows = rows_done(folder)
        if rows * 10 // total > shown:
            shown = rows * 10 // total
            line(str(rows), started, sizes)
    line(f"{rows_done(folder)}, most", started, most)


def line(what: str, started: float, sizes: list[int]) -> None:
    """One line."""
    cells = " | ".join(f"{size / MIB:.0f}" for size in sizes)
    print(f"| {what} | {time.monotonic() - started:.0f} | {cells} |", flush=True)


def resident(pid: int) -> list[int]:
    """[worker, core, others] in bytes."""
    sizes = [0, 0, 0]
    try:
        worker = psutil.Process(pid)
        sizes[0] = worker.memory_info().rss
        for child in worker.children(recursive=True):
            sizes[1 if "EngineCore" in child.name() else 2] += child.memory_info().rss
    except psutil.NoSuchProcess:
        return sizes
    return sizes


def rows_done(folder: Path) -> int:
    """As the worker's progress file tells."""
    files = folder.glob("results/*/*/progress/task-*.json")
    return sum(json.loads(path.read_text())["rows_done"] for path in files)


if __name__ == "__main__":
    main()
