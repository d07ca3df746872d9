"""Thresholds by false alarms: how high a statistic went in training runs in which hacking did not emerge.

The shipped figures are of `benchmarks/early_warning`: small models, real reinforcement learning. Another calibration is
a file of the same form, made from runs of one's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.errors import InputError

STATISTICS = ("trace", "code", "forecast")
"""Nats gained by whole exploit traces, and by exploit code after honest reasoning; probability of the forecast."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Peaks over a whole run of each statistic, its highest exploit type's, in runs that stayed quiet; its source."""

    peaks: dict[str, tuple[float, ...]]
    source: str

    def threshold(self, statistic: str, rate: float) -> float:
        """What at most `rate` of quiet runs reach. Raises InputError for a rate that so few runs cannot tell."""
        values = np.sort(self.peaks.get(statistic, ()))[::-1]
        lowest = 1 / (len(values) + 1)
        if not 0 < rate < 1:
            raise InputError(f"--false-alarm-rate {rate:g}: not a share of quiet runs; valid: above 0, below 1")
        if rate < lowest:
            raise InputError(
                f"--false-alarm-rate {rate:g}: the calibration has {len(values)} quiet runs, which cannot tell rates "
                f"below {lowest:.2g} ({self.source})",
                fix=f"ask for {np.ceil(100 * lowest) / 100:g} or more, or give --calibration FILE made from more runs",
            )
        # the (j+1)-th highest of n is passed by a further quiet run with probability (j+1) / (n+1)
        allowed = int(np.floor(rate * (len(values) + 1) + 1e-9)) - 1
        return float(values[allowed])


def read_calibration(path: Path | None = None) -> Calibration:
    """The shipped calibration, or a file's. Raises InputError for a file of another form."""
    if path is None:
        text, where = files(__package__).joinpath("false_alarms.json").read_text(), Path("false_alarms.json")
    else:
        where = path
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}", path=path) from None
    try:
        data = json.loads(text)
        peaks = {name: _peaks(values) for name, values in data["peaks"].items()}
        source = str(data["source"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"not a calibration: {error!r}; it is an object with `source` and `peaks` (trace, code, forecast: lists of "
            "numbers, one a quiet run)",
            path=where,
        ) from None
    if any(not np.isfinite(value) for values in peaks.values() for value in values):
        raise InputError("a peak is not a finite number", path=where)
    if any(not 0 <= value <= 1 for value in peaks.get("forecast", ())):
        raise InputError("a peak of `forecast` is not a probability", path=where)
    return Calibration(peaks, source)


def _peaks(values: Any) -> tuple[float, ...]:
    """A list of numbers, and nothing that Python would take for one: no text, no true or false."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise TypeError("a list of numbers is needed")
    return tuple(float(value) for value in values)
