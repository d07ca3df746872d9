"""Write the shards of a run of N rows and measure making its tables, reading and analysing them.

    python -m benchmarks.scale [--rows 10000000] [--dir DIR] [--keep]

Rows are those of the tables: six tenths are attempts of about 1,600 bytes (reasoning, prompt, response), the rest
scores of their prefixes under the checkpoints and the donor, and the KL between both. Prints one JSON line a step:
seconds, CPU seconds (of all threads and child processes, imports included) and the most resident memory that its
processes held at one time. Each step runs in a process of its own, so that the peaks do not add up.
`write_tables` is `foreshock aggregate`; `analyse_run` is all that `foreshock run` does after it, report included;
`finish_run` is both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.scale.shards import write_run
from benchmarks.scale.steps import analyse_run, count, finish_run, load, measured, rates, write_tables


def main() -> None:
    """Parse arguments, write the run, measure the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dir", type=Path, default=None, help="where to write; default: a temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave the files; a later call with --dir reuses them")
    args = parser.parse_args()
    run = (args.dir or Path(tempfile.mkdtemp(prefix="foreshock-scale-"))) / "scale-20260101-000000-nogit"
    if not run.exists():
        write_run(run, args.rows)
    spawn = multiprocessing.get_context("spawn")
    for step in (write_tables, count, load, rates, analyse_run, finish_run):
        with ProcessPoolExecutor(1, spawn) as pool:
            print(json.dumps(pool.submit(measured, step, run).result()), flush=True)
    if not args.keep:
        shutil.rmtree(run)


if __name__ == "__main__":
    main()
