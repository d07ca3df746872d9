"""A run as experiment trackers want it: settings, numbers by training step, and files.

What was not measured is no number here, never 0. A checkpoint without a step (`final`) has no place on a step axis, so
its numbers stand apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.analysis.surfaces.cells import RunSource, load_run_cells
from foreshock.analysis.surfaces.whole_traces import trace_signals
from foreshock.analysis.tables.load import run_name
from foreshock.analysis.tables.own_csv import read_csv
from foreshock.errors import InputError

_FILES = ("config.yaml", "metadata.json", "status.json", "report.html", "analysis/rates.csv", "analysis/summary.json")
_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")
_RATE_COLUMNS = ("log10_rate", "lower95", "upper95")


@dataclass(frozen=True, slots=True)
class Number:
    """One value of a series. `step`: training step; None for `final`."""

    series: str
    step: int | None
    value: float


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """settings: flat keys (`sampling.attempts`) to plain values. files: (path, folder in the tracker)."""

    name: str
    settings: dict[str, Any]
    numbers: tuple[Number, ...]
    files: tuple[tuple[Path, str], ...]

    def by_step(self) -> dict[int, dict[str, float]]:
        """Numbers of each step, steps ascending."""
        steps: dict[int, dict[str, float]] = {}
        for number in sorted((n for n in self.numbers if n.step is not None), key=lambda n: n.step or 0):
            assert number.step is not None
            steps.setdefault(number.step, {})[number.series] = number.value
        return steps

    def final(self) -> dict[str, float]:
        """Numbers of the checkpoint without a step."""
        return {f"final/{number.series}": number.value for number in self.numbers if number.step is None}


def track(run_dir: Path) -> TrackedRun:
    """Exploit rates of every level, mean scores, and the unprompted rates that the run's analysis found.

    Raises:
        InputError: the run has no evals, or a line that cannot be read.
    """
    cells = load_run_cells(RunSource(run_dir)).cells
    numbers = []
    for row in cells.to_dict("records"):
        place = f"level_{row['prefill_level']}/{_plain(row['exploit_type'])}"
        values = {"attempts": row["n"], "exploit_rate": row["k"] / row["n"] if row["n"] else np.nan}
        values |= {"prefill_logprob": row["logprob_mean"], "kl": row["kl_mean"]}
        numbers += [(f"{name}/{place}", row["checkpoint"], value) for name, value in values.items()]
        kind = _plain(row["exploit_type"])
        codes = {"exploit_code_logprob": row["code_logprob"], "honest_code_logprob": row["honest_code_logprob"]}
        numbers += [(f"{name}/{kind}", row["checkpoint"], value) for name, value in codes.items()]
    numbers += [
        (f"trace_logprob/{_plain(row['exploit_type'])}", row["checkpoint"], row["trace_logprob"])
        for row in trace_signals(run_dir).to_dict("records")
    ]
    numbers += _rates(run_dir / "analysis" / "rates.csv")
    known = [
        Number(series, int(step) if np.isfinite(step) else None, float(value))
        for series, step, value in numbers
        if np.isfinite(value)
    ]
    files = [(run_dir / name, str(Path(name).parent)) for name in _FILES if (run_dir / name).is_file()]
    return TrackedRun(run_name(run_dir), _settings(run_dir / "config.yaml"), tuple(known), tuple(files))


def _rates(path: Path) -> list[tuple[str, float, float]]:
    """log10 of the estimates and their limits, by method; a bound has a limit and no estimate."""
    if not path.is_file():
        return []
    table = read_csv(path)
    needed = {"exploit_type", "checkpoint", "method"}
    if not needed <= set(table):
        raise InputError(
            f"lacks the columns {', '.join(sorted(needed - set(table)))}", path=path, fix="foreshock rates"
        )
    return [
        (f"unprompted/{column}/{_plain(row['method'])}/{_plain(row['exploit_type'])}", float(row["checkpoint"]), value)
        for row in table.to_dict("records")
        for column in _RATE_COLUMNS
        if (value := float(row.get(column, np.nan))) == value
    ]


def _settings(path: Path) -> dict[str, Any]:
    """The configuration in one level; nothing where there is none or it cannot be read."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return dict(_flat(document)) if isinstance(document, dict) else {}


def _flat(document: dict[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            found.append((f"{prefix}{key}", value if isinstance(value, bool | int | float | str) else str(value)))
    return found


def _plain(name: object) -> str:
    """A name that every tracker takes: types are other people's text."""
    return _OTHER.sub("_", str(name)).strip("_")[:100] or "unnamed"
