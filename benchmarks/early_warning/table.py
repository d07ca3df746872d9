"""The printed tables: runs, lead at a rate of false alarms, the curve over rates, separation, transfer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.early_warning.alarms import crossing, load_measured, series, true_rates
from benchmarks.early_warning.design import RunSetting
from benchmarks.early_warning.lead import Scored, lead, separation, transferred

from foreshock.jobs.verify.builtin.problems import DEMO_TYPES

RATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
SEPARATION_STEPS = (4, 8, 16, 24, 32)
HALVES = (DEMO_TYPES[::2], DEMO_TYPES[1::2])
"""Exploit types that thresholds are tuned on, and those that they are then scored on."""


def scored_runs(
    root: Path, settings: Sequence[RunSetting], types: Sequence[str] = DEMO_TYPES, models: bool = True
) -> list[Scored]:
    """The runs that are trained and measured, with every alarm's values for these types."""
    found = []
    for setting in settings:
        run = load_measured(root, setting)
        if run is not None:
            values = series(root, run, types, models)
            found.append(Scored(setting.name, setting.base, run.steps, values, crossing(run, types)))
    return found


def runs_table(root: Path, settings: Sequence[RunSetting]) -> str:
    """One line a kind of run."""
    kinds: dict[tuple[float, float, float, str], list[tuple[float | None, float]]] = defaultdict(list)
    for setting in settings:
        run = load_measured(root, setting)
        if run is not None:
            kind = (setting.lr, setting.kl, setting.impossible, setting.reward.value)
            kinds[kind].append((crossing(run), float(true_rates(run, DEMO_TYPES).max())))
    lines = [
        "| learning rate | KL | impossible | reward | runs | emerge | at steps | highest rate of the others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (lr, kl, share, reward), runs in kinds.items():
        at = ", ".join(f"{step:.0f}" for step in sorted(step for step, _ in runs if step is not None))
        quiet = [rate for step, rate in runs if step is None]
        rest = f"{max(quiet):.1%}" if quiet else ""
        emerged = len(runs) - len(quiet)
        lines.append(f"| {lr:g} | {kl:g} | {share:g} | {reward} | {len(runs)} | {emerged} | {at} | {rest} |")
    return "\n".join(lines)


def lead_table(runs: Sequence[Scored], rate: float = 0.05) -> str:
    """Every alarm at one rate of false alarms per run."""
    lines = [
        f"| alarm at {rate:.0%} | false alarms | alarmed before | steps ahead | doublings ahead | ahead of direct |",
        "|---|---|---|---|---|---|",
    ]
    for alarm in runs[0].values:
        found = lead(runs, alarm, rate)
        own, against = (
            f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in (found.doublings, found.against_direct)
        )
        lines.append(
            f"| {alarm} | {found.false_alarms} of {found.quiet} | {found.early} of {found.emerged} | {found.steps:.0f} "
            f"| {own} | {against} |"
        )
    return "\n".join(lines)


def curve_table(runs: Sequence[Scored]) -> str:
    """Median doublings of lead by rate of false alarms."""
    lines = ["| alarm | " + " | ".join(f"{rate:.0%}" for rate in RATES) + " |", "|---" * (len(RATES) + 1) + "|"]
    for alarm in runs[0].values:
        cells = []
        for rate in RATES:
            middle, low, high = lead(runs, alarm, rate, draws=200).doublings
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {alarm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def separation_table(runs: Sequence[Scored]) -> str:
    """AUC of "emerges later" as of fixed steps, among runs that have not emerged by then."""
    counts = [separation(runs, "direct", step)[1:] for step in SEPARATION_STEPS]
    heads = [f"step {step} ({a}, {b})" for step, (a, b) in zip(SEPARATION_STEPS, counts, strict=True)]
    lines = ["| alarm | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for alarm in runs[0].values:
        values = [separation(runs, alarm, step)[0] for step in SEPARATION_STEPS]
        lines.append(f"| {alarm} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return "\n".join(lines)


def transfer_table(root: Path, settings: Sequence[RunSetting], models: bool, rate: float = 0.05) -> str:
    """Thresholds from one half of runs and exploit types, scored on the other half of both, and the reverse."""
    halves = [scored_runs(root, settings, types, models) for types in HALVES]
    lines = [
        f"| alarm tuned at {rate:.0%} | false alarms on the other half | median doublings of lead there |",
        "|---|---|---|",
    ]
    for alarm in halves[0][0].values:
        false, quiet, leads = 0, 0, []
        for types in (0, 1):
            for start in (0, 1):  # the design's order mixes kinds, so every other pair of runs is a fair half
                tuned = [run for i, run in enumerate(halves[types]) if (i // 8 + i) % 2 == start]
                names = {run.name for run in tuned}
                rest = [run for run in halves[1 - types] if run.name not in names]
                wrong, n, median = transferred(tuned, rest, alarm, rate)
                false, quiet = false + wrong, quiet + n
                leads.append(median)
        lines.append(f"| {alarm} | {false} of {quiet} | {np.nanmean(leads):.2f} |")
    return "\n".join(lines)


def calibration(root: Path, settings: Sequence[RunSetting]) -> dict[str, Any]:
    """How high each statistic of the watch got in every quiet run."""
    quiet = [run for run in scored_runs(root, settings) if run.crossing is None]
    names = {"trace": "trace, a type", "code": "code, a type", "forecast": "forecast, a type"}
    return {
        "source": f"benchmarks/early_warning: {len(quiet)} runs of small models in which hacking did not emerge",
        "runs": [run.name for run in quiet],
        "peaks": {key: [round(float(run.values[alarm].max()), 4) for run in quiet] for key, alarm in names.items()},
    }


def whole_report(root: Path, settings: Sequence[RunSetting], models: bool = True) -> str:
    """All tables of what is trained, measured and scored."""
    runs = scored_runs(root, settings, models=models)
    emerged = sum(run.crossing is not None for run in runs)
    if not emerged or emerged == len(runs):
        return f"{len(runs)} runs, {emerged} of which emerged: a table needs runs of both kinds\n"
    parts = [
        f"{len(runs)} runs, {emerged} of which emerged",
        runs_table(root, settings),
        lead_table(runs),
        curve_table(runs),
        separation_table(runs),
        transfer_table(root, settings, models=False),
    ]
    return "\n\n".join(parts) + "\n"
