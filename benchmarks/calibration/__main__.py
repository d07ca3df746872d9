"""`python -m benchmarks.calibration write --regime early --seed 0 --out DIR`: a simulated sweep on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.regimes import REGIMES, regime_named
from benchmarks.calibration.write import write_experiment


def main() -> None:
    """Parse arguments and dispatch."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write run directories, a donor run and truth.csv")
    write.add_argument("--regime", choices=sorted(REGIMES), required=True)
    write.add_argument("--seed", type=int, default=0)
    write.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    written = write_experiment(simulate(regime_named(options.regime), options.seed), options.out)
    for run in written.runs:
        print(run)
    print(written.donor_run)
    print(written.truth)


if __name__ == "__main__":
    main()
