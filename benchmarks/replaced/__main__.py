"""Command line of the differential run; see the package's docstring."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from benchmarks.replaced.runs import write_study
from benchmarks.replaced.tables import Agreement, emergence, integration, trajectories


def main() -> None:
    """Run both tools on fresh runs and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replaced", description=__doc__)
    parser.add_argument("--head", type=Path, required=True, help="checkout of rh-indicators at 1e8783d")
    parser.add_argument("--seed", type=Path, required=True, help="checkout at 1030f39, with the older scripts")
    parser.add_argument("--study", type=int, default=5, help="seed of the simulated study")
    arguments = parser.parse_args()
    head, seed = arguments.head.resolve(), arguments.seed.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = write_study(folder, arguments.study)
        found: list[Agreement] = trajectories(study, head, seed, folder)
        found += integration(study, seed, folder)
        found += emergence(study, head, folder)
    print(pd.DataFrame(map(asdict, found)).to_markdown(index=False))


if __name__ == "__main__":
    main()
