"""Lead time against false alarms, run by run.

A run emerges when its true rate passes the threshold. An alarm's threshold is set by the runs that never emerge: at a
rate of false alarms per run, it is the lowest that at most that share of them ever reaches. A run's alarm step is the
first checkpoint at which the statistic reaches it. Lead is counted in doublings of training steps, since a run that
crosses at 80 leaves more time than one that crosses at 40.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Scored:
    """One run: steps [C]; each alarm's values [C]; the step at which it emerged, None if it did not."""

    name: str
    base: int
    steps: Array
    values: Mapping[str, Array]
    crossing: float | None


@dataclass(frozen=True, slots=True)
class Lead:
    """An alarm at a rate of false alarms.

    threshold: of its statistic. false_alarms: of `quiet` runs, with each run's threshold set by the others.
    steps, doublings: median lead over the `emerged` runs, 95% interval by bootstrap over runs (quiet ones too); a run
    that is never alarmed before it emerges counts as such. early: share of emerged runs alarmed before they emerge.
    against_direct: median doublings by which it comes before direct sampling at the same rate of false alarms.
    """

    threshold: float
    false_alarms: int
    quiet: int
    emerged: int
    early: int
    steps: float
    doublings: tuple[float, float, float]
    against_direct: tuple[float, float, float]


def threshold_at(runs: Sequence[Scored], alarm: str, rate: float) -> float:
    """The lowest threshold that at most `rate` of the runs that never emerged reach."""
    peaks = np.sort([float(np.max(run.values[alarm])) for run in runs if run.crossing is None])[::-1]
    allowed = int(np.floor(rate * len(peaks) + 1e-9))
    if allowed >= len(peaks):
        return -NEVER
    return float(np.nextafter(peaks[allowed], NEVER))


def alarm_step(run: Scored, alarm: str, threshold: float) -> float:
    """The first checkpoint at or above the threshold; infinity if none is."""
    reached = np.flatnonzero(run.values[alarm] >= threshold)
    return float(run.steps[reached[0]]) if len(reached) else NEVER


def doublings(run: Scored, step: float) -> float:
    """log2 of the emergence's step over the alarm's; an alarm that never came counts as at the last checkpoint."""
    assert run.crossing is not None
    return float(np.log2(max(run.crossing, 1.0) / max(min(step, float(run.steps[-1])), 1.0)))


def lead(runs: Sequence[Scored], alarm: str, rate: float, reference: str = "direct", draws: int = 400) -> Lead:
    """Lead of an alarm at `rate` false alarms per run. Needs runs of both kinds."""
    quiet = [run for run in runs if run.crossing is None]
    emerged = [run for run in runs if run.crossing is not None]
    threshold = threshold_at(quiet, alarm, rate)
    false = sum(
        alarm_step(run, alarm, threshold_at([other for other in quiet if other is not run], alarm, rate)) < NEVER
        for run in quiet
    )
    at = [alarm_step(run, alarm, threshold) for run in emerged]
    rng = np.random.default_rng(0)
    own, against = _leads(quiet, emerged, alarm, reference, rate)
    resampled = []
    for _ in range(draws):
        some = [quiet[i] for i in rng.integers(len(quiet), size=len(quiet))]
        others = [emerged[i] for i in rng.integers(len(emerged), size=len(emerged))]
        a, b = _leads(some, others, alarm, reference, rate)
        resampled.append((np.median(a), np.median(b)))
    low, high = np.quantile(np.array(resampled), [0.025, 0.975], axis=0)
    return Lead(
        threshold,
        false,
        len(quiet),
        len(emerged),
        sum(step < (run.crossing or 0.0) for step, run in zip(at, emerged, strict=True)),
        float(np.median([(run.crossing or 0.0) - min(s, run.steps[-1]) for s, run in zip(at, emerged, strict=True)])),
        (float(np.median(own)), float(low[0]), float(high[0])),
        (float(np.median(against)), float(low[1]), float(high[1])),
    )


def _leads(
    quiet: Sequence[Scored], emerged: Sequence[Scored], alarm: str, reference: str, rate: float
) -> tuple[list[float], list[float]]:
    mine, theirs = threshold_at(quiet, alarm, rate), threshold_at(quiet, reference, rate)
    own = [doublings(run, alarm_step(run, alarm, mine)) for run in emerged]
    direct = [doublings(run, alarm_step(run, reference, theirs)) for run in emerged]
    return own, [a - b for a, b in zip(own, direct, strict=True)]


def transferred(tuned: Sequence[Scored], scored: Sequence[Scored], alarm: str, rate: float) -> tuple[int, int, float]:
    """With the threshold of one half: (false alarms, quiet runs, median doublings of lead) on the other."""
    threshold = threshold_at(tuned, alarm, rate)
    quiet = [run for run in scored if run.crossing is None]
    emerged = [run for run in scored if run.crossing is not None]
    false = sum(alarm_step(run, alarm, threshold) < NEVER for run in quiet)
    leads = [doublings(run, alarm_step(run, alarm, threshold)) for run in emerged]
    return false, len(quiet), float(np.median(leads)) if leads else float("nan")


def separation(runs: Sequence[Scored], alarm: str, step: float) -> tuple[float, int, int]:
    """(AUC, runs that emerge later, runs that never do) of the statistic as of `step`, among runs not yet emerged."""
    values: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        at = np.flatnonzero(run.steps == step)
        if len(at) and (run.crossing is None or run.crossing > step):
            values[run.crossing is not None].append(float(run.values[alarm][at[0]]))
    rising, quiet = np.array(values[True]), np.array(values[False])
    if not len(rising) or not len(quiet):
        return float("nan"), len(rising), len(quiet)
    higher = (rising[:, None] > quiet).mean() + 0.5 * (rising[:, None] == quiet).mean()
    return float(higher), len(rising), len(quiet)
