"""Command line of the survival benchmark; see the package's docstring."""

from __future__ import annotations

import argparse

import pandas as pd
from benchmarks.survival.coverage import SETTINGS, coverage


def main() -> None:
    """Run every setting and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survival", description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="simulated experiments per setting")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    table = pd.concat([coverage(s, arguments.runs, arguments.seed) for s in SETTINGS], ignore_index=True)
    print(table.round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
