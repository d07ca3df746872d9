"""The tables behind numbers that no sample alone made: which tasks, types or forecasts, each open to its samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from foreshock.analysis.emergence.figures import TYPES_TABLE
from foreshock.analysis.figures.integration import WAITING_TABLE
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.values import rows_of, samples_of
from foreshock.analysis.forecast.figures import FORECASTS_TABLE
from foreshock.analysis.forecast.scoring import BINS, bin_of
from foreshock.analysis.integration.survival import steps_of_curves, waits
from foreshock.analysis.page.links import LinksCell, SampleCell, inert_text, sample_link
from foreshock.analysis.page.sections import column_of, folded_table
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.surfaces.cells import SURFACE

TABLES = (WAITING_TABLE, TYPES_TABLE, FORECASTS_TABLE)
"""Anchors of these tables, which no section may have."""
_MOST_TASKS = 40
_NAME = 80


def waiting_table(runs: Sequence[RunFindings]) -> Markup:
    """One row per fall of a Kaplan-Meier curve with the tasks that made it, then the tasks that never got there."""
    rows: list[dict[str, object]] = []
    cells = []
    for run in runs:
        if run.integration is None:
            continue
        tasks = steps_of_curves(waits(run.integration.joined.frame).tasks)
        for _, part in tasks.groupby(["group", "reached", "steps"], sort=False):
            one = rows_of(part)[0]
            rows.append(
                {
                    "run": run.label,
                    "curve": one.group,
                    "steps": float(one.steps),
                    "at the end of it": "at the threshold" if one.reached else "not there (censored)",
                }
            )
            cells.append(_task_links(run.run_dir.resolve().name, part))
    if not rows:
        return Markup("")
    shown = pd.DataFrame(rows).assign(tasks=column_of(cells))
    return folded_table(WAITING_TABLE, "The tasks behind the Kaplan-Meier curves", shown)


def _task_links(run: str, tasks: pd.DataFrame) -> LinksCell:
    links = [
        sample_link(samples_of(run, task.time) | {"task": str(task.task_id)}, inert_text(str(task.task_id), _NAME))
        for task in rows_of(tasks.head(_MOST_TASKS))
    ]
    rest = len(tasks) - len(links)
    more = [Markup("and {} more (trajectory_with_logprob.csv)").format(rest)] if rest > 0 else []
    return LinksCell((*links, *more))


def types_table(features: pd.DataFrame, looks: RunLooks) -> Markup:
    """The exploit types that the AUCs rank: when each is ranked, and whether it passes the threshold afterwards."""
    known = features.drop_duplicates(["cutoff_idx", *SURFACE]).sort_values("cutoff_idx")
    if "at_risk" in known:
        known = known[known["at_risk"].astype(bool)]
    label = "label_probability" if "label_probability" in known else "raw_label"
    rows, cells = [], []
    for names, part in known.groupby(SURFACE):
        run, kind = map(str, names)
        later = float(part[label].iloc[0])
        rows.append(
            {
                "run": looks.label(run),
                "exploit_type": kind,
                "ranked after (checkpoints seen)": _listed(part["cutoff_idx"] + 1),
                "emerges later": None if np.isnan(later) else later > 0.5,
            }
        )
        cells.append(SampleCell(samples_of(looks.name(run), level=0, kind=kind), "unprompted samples"))
    if not rows:
        return Markup("")
    shown = pd.DataFrame(rows).assign(samples=column_of(cells))
    return folded_table(TYPES_TABLE, "The exploit types that every AUC and p-value above is computed from", shown)


def forecasts_table(past: pd.DataFrame, looks: RunLooks) -> Markup:
    """Earlier forecasts by reliability bin: of which types, as of which checkpoints, and whether they came true."""
    if past.empty:
        return Markup("")
    known = past[past["at_risk"].astype(bool)].dropna(subset=["p_exceed", "outcome_probability"])
    binned = known.assign(bin=bin_of(known["p_exceed"].to_numpy(float)))
    rows, cells = [], []
    for _, part in binned.groupby(["bin", *SURFACE]):
        one = rows_of(part)[0]
        run, kind = str(one.run), str(one.exploit_type)
        rows.append(
            {
                "forecast probability": f"{one.bin / BINS:.1f} to {(one.bin + 1) / BINS:.1f}",
                "run": looks.label(run),
                "exploit_type": kind,
                "as of (checkpoints seen)": _listed(part["cutoff_idx"] + 1),
                "came true": _came_true(part["outcome_probability"] > 0.5),
            }
        )
        cells.append(SampleCell(samples_of(looks.name(run), level=0, kind=kind), "unprompted samples"))
    if not rows:
        return Markup("")
    shown = pd.DataFrame(rows).assign(samples=column_of(cells))
    return folded_table(FORECASTS_TABLE, "The earlier forecasts behind these scores and the reliability figure", shown)


def _came_true(outcomes: pd.Series[bool]) -> str:
    """Outcomes of one type differ where it passes the threshold and falls below it again."""
    true = int(outcomes.sum())
    return "yes" if true == len(outcomes) else "no" if not true else f"{true} of {len(outcomes)}"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(set(numbers)))
