"""The section on what was run: enough to judge and to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.page.links import SampleCell
from foreshock.analysis.page.sections import Part, Section, column_of, html_table
from foreshock.analysis.report.gather import RunFindings
from foreshock.analysis.tables.read_report import both_rates
from foreshock.analysis.tables.schema import checkpoint_label
from foreshock.jobs.records.verdicts import UNJUDGED, UNREAD_SHARE

_WORST = 5
"""Cells that are described one by one."""


def runs_section(runs: Sequence[RunFindings]) -> Section:
    """Provenance, counts, missing cells and sandbox tiers of every run."""
    body = Markup("")
    for run in runs:
        body += Markup('<div class="run"><h3>{}</h3>').format(run.label)
        body += _definitions([("Directory", str(run.run_dir.resolve().name)), *run.provenance.facts(), *_counts(run)])
        body += Markup("<h4>Tasks and attempts by exploit type</h4>") + html_table(_types(run))
        body += Markup("</div>")
    return Section(
        title="What was run",
        anchor="runs",
        lead="Provenance and counts, for judging the numbers above and for repeating them.",
        body_html=body,
        part=Part.METHODS,
    )


def _definitions(facts: Sequence[tuple[str, str]]) -> Markup:
    rows = Markup("").join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in facts)
    return Markup('<dl class="facts">{}</dl>').format(rows)


def _counts(run: RunFindings) -> list[tuple[str, str]]:
    report = run.counts.report
    steps = sorted({cell.checkpoint for cell in report.cells})
    levels = sorted({cell.prefill_level for cell in report.cells})
    attempts = run.summary.get("attempts_per_level")
    spread = f"{attempts[0]} to {attempts[-1]}" if isinstance(attempts, list) else str(attempts)
    tiers = report.distinct("sandbox_tier")
    models = report.distinct("model_id")
    return [
        ("Checkpoints", ", ".join(checkpoint_label(step) for step in steps)),
        ("Prefill levels (words)", ", ".join(map(str, levels))),
        ("Attempts per task and level", spread),
        ("Rows used", f"{report.rows:,}"),
        ("Sandbox", ", ".join(tiers) if tiers else "not recorded"),
        ("Models", _some(models)),
    ]


def _some(values: Sequence[str], shown: int = 4) -> str:
    if not values:
        return "not recorded"
    rest = f" and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(values[:shown]) + rest


def code_notes(run: RunFindings) -> list[str]:
    """How much could not be read, and rates over either denominator, overall and where it matters."""
    report, cells = run.counts.report, run.counts.cells
    unjudged = sum(cell.unjudged for cell in report.cells)
    if not unjudged and not report.suspicious_cells:
        return []
    kinds = ", ".join(f"{status} {n:,}" for status, n in report.code.items() if status in UNJUDGED)
    n, k = int(cells["n"].sum()), int(cells["k"].sum())
    notes = [
        f"{unjudged:,} of {n:,} responses held no code to judge ({kinds}). They count as attempts without an exploit: "
        f"{both_rates(k, n, unjudged)}."
    ]
    worst = sorted(report.suspicious_cells, key=lambda cell: -(cell.unjudged + cell.rejected) / max(1, cell.rows))
    for cell in worst[:_WORST]:
        own = cells[(cells["checkpoint"] == cell.checkpoint) & (cells["prefill_level"] == cell.prefill_level)]
        both = both_rates(int(own["k"].sum()), cell.rows, cell.unjudged)
        notes.append(
            f"At checkpoint {checkpoint_label(cell.checkpoint)} level {cell.prefill_level}, {cell.unjudged} of "
            f"{cell.rows} responses held no code, and {cell.rejected} held code that does not compile: {both}. "
            f"More than {UNREAD_SHARE:.0%}: read some before trusting a rate."
        )
    if len(worst) > _WORST:
        notes.append(f"{len(worst) - _WORST} more cells are like these.")
    return notes


def _types(run: RunFindings) -> pd.DataFrame:
    tasks = run.counts.tasks
    grouped = tasks.groupby("exploit_type", observed=True)
    table: dict[str, Any] = {
        "tasks": grouped["task_id"].nunique(),
        "attempts": grouped["n"].sum(),
        "exploits": grouped["k"].sum(),
    }
    frame = pd.DataFrame(table).reset_index()
    last = tasks[tasks["checkpoint"] == tasks["checkpoint"].max()]
    zero = last[last["prefill_level"] == 0].groupby("exploit_type", observed=True)[["n", "k"]].sum()
    name = run.run_dir.resolve().name
    at = {"run": name, "checkpoint": checkpoint_label(float(last["checkpoint"].iloc[0])), "level": "0"}
    frame["unprompted_at_last"] = column_of(
        SampleCell(at | {"type": str(kind)}, f"{int(zero.loc[kind, 'k'])} of {int(zero.loc[kind, 'n'])}")
        if kind in zero.index
        else "–"
        for kind in frame["exploit_type"]
    )
    for column in ("tasks", "attempts"):
        cells = zip(frame["exploit_type"], frame[column], strict=True)
        frame[column] = column_of(SampleCell({"run": name, "type": str(kind)}, f"{n:,}") for kind, n in cells)
    exploits = [
        SampleCell({"run": name, "type": str(kind), "verdict": "exploit"}, f"{k:,}")
        for kind, k in zip(frame["exploit_type"], frame["exploits"], strict=True)
    ]
    frame["exploits"] = column_of(exploits)
    return frame
