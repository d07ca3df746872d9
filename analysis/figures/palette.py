"""Which colour, marker and place a run has: one mapping, made once from the runs' order, for every figure.

Colours of runs stand for runs alone. Whatever else needs telling apart (measures, models) takes `OTHER`, so that no
legend names a colour that another panel gives to a run. All have a contrast of 4.5:1 or more on white, so that text may
take them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

RUNS = ("#0067A5", "#B84A00", "#00765A", "#A3417A", "#7A5C00", "#2B6E86", "#5A4A3A", "#4B4B4B")
OTHER = ("#5B4FA0", "#6E6A00", "#8A2F4B", "#35664F", "#5C5C5C")
WORDS, LOGPROB = OTHER[0], OTHER[1]
"""The two measures that are set against each other."""
_MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True)
class RunLooks:
    """Runs in the order that every figure keeps. A run may be asked for by its directory's name or by its label."""

    names: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, run_dirs: Sequence[Path], labels: Sequence[str] | None = None) -> RunLooks:
        """Looks of run directories; without labels their names serve."""
        names = tuple(path.resolve().name for path in run_dirs)
        return cls(names, tuple(labels) if labels is not None else names)

    @classmethod
    def named(cls, runs: Iterable[str]) -> RunLooks:
        """Looks of runs that are known by name alone, in the order given."""
        names = tuple(dict.fromkeys(map(str, runs)))
        return cls(names, names)

    def place(self, run: str) -> int:
        """Where a run stands; a run that is not among them comes last."""
        for known in (self.labels, self.names):
            if run in known:
                return known.index(run)
        return len(self.names)

    def colour(self, run: str) -> str:
        """The run's colour in every figure."""
        return RUNS[self.place(run) % len(RUNS)]

    def marker(self, run: str) -> str:
        """The run's marker, so that colour is not alone in telling runs apart."""
        return _MARKERS[self.place(run) % len(_MARKERS)]

    def label(self, run: str) -> str:
        """How readers know the run."""
        place = self.place(run)
        return self.labels[place] if place < len(self.labels) else run

    def legend(self, run: str) -> str:
        """The label as matplotlib takes it for a legend: it leaves out those that begin with an underscore."""
        label = self.label(run)
        return f" {label}" if label.startswith("_") else label

    def name(self, run: str) -> str:
        """The run directory's name, which links to samples go by."""
        place = self.place(run)
        return self.names[place] if place < len(self.names) else run

    def ordered(self, runs: Iterable[str]) -> list[str]:
        """Each once, in the mapping's order; strangers last, by name."""
        return sorted(set(map(str, runs)), key=lambda run: (self.place(run), run))


def contrast(one: str, other: str = "#ffffff") -> float:
    """Contrast ratio of two hex colours (WCAG 2.2, relative luminance): 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of a hex colour (WCAG 2.2): 0 to 1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
