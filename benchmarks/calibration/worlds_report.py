"""How the headline does on random worlds: by kind, by quantile of worlds, by rank, and whether faults are noticed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.gather import random_worlds
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import regime_named
from benchmarks.calibration.worlds.corrupt import FAULTS, corrupted
from benchmarks.calibration.worlds.sweep import Array, World

from foreshock.analysis.estimates.rates import estimate_rates
from foreshock.analysis.evidence.estimate import Method, Status
from foreshock.analysis.headline.estimate import estimate_headline

_BINS = ("below 2.5%", "2.5 to 5%", "5 to 50%", "50 to 95%", "95 to 97.5%", "above 97.5%")
_NOMINAL = (0.025, 0.025, 0.45, 0.45, 0.025, 0.025)


@dataclass(frozen=True, slots=True)
class Judged:
    """Cells of all worlds, arrays [N]: world and kind index, truth, point, limits (log10), successes, estimate (else
    bound). `kinds`: names; `rank`: [N] bin of the truth among the five quantiles of an estimate, -1 for a bound."""

    world: Array
    kind: Array
    truth: Array
    point: Array
    low: Array
    high: Array
    seen: Array
    estimate: Array
    rank: Array
    kinds: tuple[str, ...]


def regime_worlds(names: Iterable[str], first_seed: int, count: int) -> Iterable[tuple[int, World]]:
    """Sweeps of benchmarks/calibration/regimes.py as worlds."""
    number = 0
    for name in names:
        for seed in range(first_seed, first_seed + count):
            evidence, truth = to_evidence(simulate(regime_named(name), seed))
            yield number, World(evidence, truth, name, "regimes")
            number += 1


def judge_worlds(worlds: Iterable[tuple[int, World]]) -> Judged:
    """Run `rates` on every world."""
    columns: dict[str, list[float]] = {name: [] for name in Judged.__slots__ if name != "kinds"}
    kinds: list[str] = []
    for number, world in worlds:
        evidence = world.evidence
        place = {(s.run, s.exploit_type): j for j, s in enumerate(evidence.surfaces)}
        step = {int(s): c for c, s in enumerate(evidence.steps)}
        if world.kind not in kinds:
            kinds.append(world.kind)
        for e in estimate_rates(evidence).estimates:
            if e.method is not Method.HEADLINE:
                continue
            truth = float(np.log10(world.truth[place[e.run, e.exploit_type], step[e.checkpoint]]))
            limits = (e.limits.lower95, e.limits.lower90, e.log10_rate, e.limits.upper90, e.limits.upper95)
            sound = e.status is Status.ESTIMATE
            columns["world"].append(number)
            columns["kind"].append(kinds.index(world.kind))
            columns["truth"].append(truth)
            columns["point"].append(np.nan if e.log10_rate is None else e.log10_rate)
            columns["low"].append(-np.inf if limits[0] is None else limits[0])
            columns["high"].append(0.0 if limits[4] is None else limits[4])
            columns["seen"].append(e.successes)
            columns["estimate"].append(sound)
            columns["rank"].append(sum(truth > float(q or 0.0) for q in limits) if sound else -1)
    return Judged(**{name: np.asarray(values) for name, values in columns.items()}, kinds=tuple(kinds))


def report(judged: Judged) -> str:
    """The printed tables."""
    inside = (judged.low <= judged.truth) & (judged.truth <= judged.high)
    zero, sound = judged.seen == 0, judged.estimate.astype(bool)
    head = "  n zero  estimate   bias   RMSE  cov95  width | bounds hold | seen: RMSE  cov95"
    lines = [f"{'kind':32s} {head}"]
    rows = []
    for i, name in enumerate(judged.kinds):
        mine = judged.kind == i
        a, b, c = mine & zero & sound, mine & ~sound, mine & ~zero & sound
        error, seen = (judged.point - judged.truth)[a], (judged.point - judged.truth)[c]
        row = [
            float((mine & zero).sum()), _mean(sound[mine & zero]), _mean(error), _rms(error), _mean(inside[a]),
            _mean((judged.high - judged.low)[a]), _mean(inside[b]), _rms(seen), _mean(inside[c]),
        ]  # fmt: skip
        rows.append(row)
        lines.append(f"{name:32s} {_row(row)}")
    table = np.array(rows)
    with np.errstate(all="ignore"):
        lines.append(f"{'mean of kinds':32s} {_row(list(np.nanmean(table, 0)))}")
        worst = [np.nan, table[:, 1].min(), table[np.nanargmax(np.abs(table[:, 2])), 2], np.nanmax(table[:, 3])]
        worst += [np.nanmin(table[:, 4]), np.nanmax(table[:, 5]), np.nanmin(table[:, 6]), np.nanmax(table[:, 7])]
        lines.append(f"{'worst kind':32s} {_row([*worst, np.nanmin(table[:, 8])])}")
    lines += ["", *_by_world(judged, inside, zero & sound), "", *_ranks(judged, zero & sound)]
    return "\n".join(lines)


def _by_world(judged: Judged, inside: Array, used: Array) -> list[str]:
    """Coverage by quantile of worlds with at least five such cells."""
    found = []
    for world in np.unique(judged.world[used]):
        mine = used & (judged.world == world)
        if mine.sum() >= 5:
            kind = judged.kinds[int(judged.kind[mine][0])]
            found.append((float(inside[mine].mean()), int(mine.sum()), int(world), kind))
    if not found:
        return ["no world with five zero cells that are estimates"]
    shares = np.array([f[0] for f in found])
    worst = min(found)
    return [
        f"coverage by world ({len(found)} worlds, zero cells that are estimates): mean {shares.mean():.3f}, "
        f"median {np.median(shares):.3f}, 10th percentile {np.quantile(shares, 0.1):.3f}, "
        f"worlds at .90 or more: {(shares >= 0.9).mean():.2f}",
        f"worst world: {worst[0]:.2f} of {worst[1]} cells, number {worst[2]}, kind {worst[3]}",
    ]


def _ranks(judged: Judged, used: Array) -> list[str]:
    """Simulation-based calibration: how often the truth falls between the stated quantiles."""
    lines = ["rank of the truth among the stated quantiles (zero cells that are estimates): share, nominal"]
    for i, name in enumerate(_BINS):
        share = float((judged.rank[used] == i).mean()) if used.any() else np.nan
        lines.append(
            f"  {name:14s} {share:.3f}  {_NOMINAL[i]:.3f}  {'#' * round(60 * share) if share == share else ''}"
        )
    return lines


def fault_report(worlds: Iterable[tuple[int, World]], seed: int) -> str:
    """Share of worlds in which each fault is noticed, and of sound worlds in which one is said to be there."""
    noticed: dict[str, list[bool]] = {name: [] for name in ("none", *FAULTS)}
    for number, world in worlds:
        noticed["none"].append(bool(estimate_headline(world.evidence).faults))
        for fault in FAULTS:
            wrong = corrupted(np.random.default_rng([seed, number]), world.evidence, fault)
            noticed[fault].append(bool(estimate_headline(wrong).faults))
    return "\n".join(
        f"fault {name:12s} said in {np.mean(said):.3f} of {len(said)} worlds" for name, said in noticed.items()
    )


def worlds_of(family: str, seed: int, first: int, count: int) -> Iterable[tuple[int, World]]:
    """Random worlds of `registers` or `paths`."""
    return random_worlds(family, seed, first, count)


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else np.nan


def _row(v: list[float]) -> str:
    return (
        f"{v[0]:7.0f} {v[1]:9.2f} {v[2]:+6.2f} {v[3]:6.2f} {v[4]:6.3f} {v[5]:6.2f} | {v[6]:11.3f} | "
        f"{v[7]:10.2f} {v[8]:6.3f}"
    )
