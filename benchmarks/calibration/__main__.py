"""Simulated sweeps on disk, and the calibration tables.

python -m benchmarks.calibration write --regime early --seed 0 --out DIR
python -m benchmarks.calibration score --regimes early,late --replicates 5
python -m benchmarks.calibration time
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.calibration.regimes import REGIMES, regime_named
from benchmarks.calibration.seconds import fastest_fits


def _write(options: argparse.Namespace) -> None:
    from benchmarks.calibration.experiment import simulate
    from benchmarks.calibration.write import write_experiment

    written = write_experiment(simulate(regime_named(options.regime), options.seed), options.out)
    for run in written.runs:
        print(run)
    print(written.donor_run)
    print(written.truth)


def _score(options: argparse.Namespace) -> None:
    import torch
    from benchmarks.calibration.harness import DEVELOPMENT_SEED, REPORTING_SEED, run_regime, table

    torch.set_num_threads(1)
    first = REPORTING_SEED if options.report else DEVELOPMENT_SEED
    first = options.first_seed if options.first_seed is not None else first
    seeds = range(first, first + options.replicates)
    names = list(REGIMES) if options.regimes == "all" else options.regimes.split(",")
    results = [run_regime(name, seeds) for name in names]
    print(f"seeds {seeds.start}..{seeds.stop - 1}")
    print(table(results, options.methods.split(",")))


def _time(options: argparse.Namespace) -> None:
    """CPU seconds of the headline fit of 16 surfaces of 9 x 10 cells, and of one 2D GP; the fastest of three.

    In a process of one thread, BLAS's included: it has one a core, which waits for work at full CPU time, and reads
    how many it may have as numpy is imported.
    """
    os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for name, seconds in process.submit(fastest_fits, options.regime, options.seed).result().items():
            print(f"{name}: {seconds:.2f} s")


def main() -> None:
    """Parse arguments and dispatch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write run directories, a donor run and truth.csv")
    write.add_argument("--regime", choices=sorted(REGIMES), required=True)
    write.add_argument("--seed", type=int, default=0)
    write.add_argument("--out", type=Path, required=True)
    write.set_defaults(act=_write)
    judge = commands.add_parser("score", help="bias, RMSE, coverage, width and interval score of every method")
    judge.add_argument("--regimes", default="all", help="comma-separated names, or all")
    judge.add_argument("--replicates", type=int, default=5)
    judge.add_argument("--report", action="store_true", help="use the reporting seeds instead of development's")
    judge.add_argument("--first-seed", type=int, default=None)
    judge.add_argument("--methods", default="headline,importance,importance_defensive,jensen_bound,surprisal_bound")
    judge.set_defaults(act=_score)
    clock = commands.add_parser("time", help="seconds of the headline and GP fits, one thread")
    clock.add_argument("--regime", choices=sorted(REGIMES), default="early")
    clock.add_argument("--seed", type=int, default=0)
    clock.set_defaults(act=_time)
    options = parser.parse_args()
    options.act(options)


if __name__ == "__main__":
    main()
