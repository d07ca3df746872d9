"""The report's panel on the checkpoints: allowed differences between them, what admission noted, and how each behaves
in its unprompted rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.figures import write_csv
from foreshock.analysis.figures.values import samples_of
from foreshock.analysis.page.links import SampleCell
from foreshock.analysis.page.sections import Part, ReportTable, Section, bullets, column_of, html_table, paragraph
from foreshock.jobs.records.behaviour import alarms, behaviour_of_run
from foreshock.jobs.records.checkpoint_names import gathered
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.marks import MEASURES
from foreshock.jobs.records.planfile import PlanFile


def behaviour_section(runs: Sequence[tuple[RunLayout, str]], folder: Path) -> Section:
    """Write behaviour.csv of runs and their labels into `folder` and describe it, with everything that must be known
    before any rate."""
    rows: list[dict[str, Any]] = []
    where: list[dict[str, str]] = []
    warnings: list[str] = []
    notes: list[str] = []
    for layout, label in runs:
        prefix = f"{label}: " if len(runs) > 1 else ""
        plan = PlanFile.read(layout)
        record = plan.extra.get("admission") or {}
        warnings += [prefix + _difference(found) for found in record.get("differences", ())]
        notes += [prefix + note for note in gathered(record.get("notes", ()), record.get("checkpoints", ()))]
        found = behaviour_of_run(layout, plan)
        warnings += [prefix + alarm for alarm in alarms(found)]
        for own in found:
            shares = {name: own.share(name) for name in MEASURES}
            counted = max((known for _, known in own.counts.values()), default=0)
            rows.append({"run": label, "checkpoint": own.checkpoint, **shares, "rows": counted})
            where.append(samples_of(layout.name, own.checkpoint.removeprefix("checkpoint-"), 0))
    body = bullets(warnings) + (paragraph("Noted at admission:") + bullets(notes) if notes else Markup(""))
    tables: tuple[ReportTable, ...] = ()
    if rows:
        table = pd.DataFrame(rows)
        csv = folder / "behaviour.csv"
        write_csv(table, csv)
        shown = _linked(table, where).drop(columns=["run"] if len(runs) == 1 else [])
        body += html_table(shown, dict(MEASURES))
        tables = (ReportTable("Behaviour of the checkpoints (behaviour.csv)", csv),)
    return Section(
        title="What the checkpoints are",
        anchor="checkpoints",
        lead=_lead(warnings),
        body_html=body,
        tables=tables,
        part=Part.VALIDITY,
        warning=bool(warnings),
    )


def _linked(table: pd.DataFrame, where: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Shares in percent and numbers of rows, each with the samples that it counts."""
    shown = table.copy()
    for column in (*MEASURES, "rows"):
        texts = [
            "–" if pd.isna(value) else f"{value:,}" if column == "rows" else f"{100 * value:.3g}%"
            for value in table[column]
        ]
        shown[column] = column_of(SampleCell(at, text) for at, text in zip(where, texts, strict=True))
    return shown


def _lead(warnings: Sequence[str]) -> str:
    if warnings:
        n = len(warnings)
        return (
            f"Read this first: {n} thing{'s' if n > 1 else ''} about the checkpoints may look like learning and not be."
        )
    return "All checkpoints are rendered and ended alike, and none of their unprompted rows behaves oddly."


def _difference(found: Mapping[str, Any]) -> str:
    return f"{found['checkpoint']} differs from {found['from']} in its {found['what']}, which the configuration allows"
