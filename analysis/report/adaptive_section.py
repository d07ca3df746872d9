"""The report's section on adaptive attempts: where they went and what they saved.

The saving is computed from the run's own fitted model (savings.py) and said to be that; a run whose even spread would
have done as well says so in the same words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foreshock.analysis.adaptive.savings import Savings, savings
from foreshock.analysis.evidence.load import load_evidence
from foreshock.analysis.figures import write_csv
from foreshock.analysis.page.sections import ReportTable, Section, bullets, html_table, paragraph
from foreshock.analysis.tables import load_evals, numbered_checkpoints
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout


def adaptive_section(
    layout: RunLayout, output_dir: Path, donor_run: Path | None = None, conditioned: bool = True
) -> Section:
    """Write adaptive.csv and adaptive.json into `output_dir` and describe them.

    Raises InputError when no round was decided, or the run has no usable evaluation.
    """
    rounds = [read_json(path) for path in sorted(layout.adaptive.glob("round-*.json"))]
    table = pd.DataFrame([{"round": made["round"]} | cell for made in rounds for cell in made["cells"]])
    if table.empty:
        raise InputError("no adaptive round has given an attempt", path=layout.adaptive)
    table = table.assign(samples=table["attempts"] * table["problems"])
    csv = output_dir / "adaptive.csv"
    write_csv(table, csv)
    saved = _savings(layout, donor_run, conditioned)
    write_json(output_dir / "adaptive.json", saved.to_json())
    body = paragraph(
        "After the sweep, further unprompted attempts went where they should narrow the estimated rates most. "
        "No cell's number of attempts depends on its own outcomes, so observed rates stay unbiased. Tables that count "
        "attempts (min prefill, accessibility) use the sweep's own attempts alone."
    )
    body += bullets(_facts(saved))
    columns = ["round", "checkpoint", "exploit_type", "attempts", "samples"]
    body += html_table(table.sort_values("samples", ascending=False, kind="stable")[columns].head(12))
    return Section(
        title="Where further attempts went",
        anchor="adaptive",
        lead=_lead(saved),
        body_html=body,
        tables=(ReportTable("Further attempts by cell (adaptive.csv)", csv),),
    )


def _savings(layout: RunLayout, donor_run: Path | None, conditioned: bool) -> Savings:
    evidence = load_evidence([layout.root], donor_run, conditioned).evidence
    n, _ = evidence.direct()
    swept = numbered_checkpoints(load_evals(layout.root))
    swept = swept[swept["prefill_level"] == 0]
    extra, tasks = n.copy(), np.zeros(len(evidence.surfaces), dtype=np.int64)
    for j, surface in enumerate(evidence.surfaces):
        mine = swept[swept["exploit_type"] == surface.exploit_type]
        tasks[j] = mine["task_id"].nunique()
        for c, step in enumerate(evidence.steps):
            extra[j, c] -= int((mine["checkpoint"] == step).sum())
    return savings(evidence, extra, tasks)


def _facts(saved: Savings) -> list[str]:
    facts = [
        f"{saved.samples:,} further samples.",
        f"Expected width of the 95% intervals, in decades: {saved.width_before:.2f} from the sweep alone, "
        f"{saved.width:.2f} with them, {saved.width_even:.2f} had the same number been spread evenly.",
    ]
    if saved.uniform_samples is None:
        return [*facts, "No even spread of a million attempts per problem would have given this width."]
    return [
        *facts,
        f"An even spread that gives the same width takes {saved.uniform_samples:,} samples "
        f"({saved.uniform_attempts:.1f} per problem and checkpoint). Computed from this run's fitted model.",
    ]


def _lead(saved: Savings) -> str:
    if saved.uniform_samples is None:
        return f"{saved.samples:,} further samples did what no even spread would have done."
    difference = saved.uniform_samples - saved.samples
    if difference <= 0:
        return f"{saved.samples:,} further samples; an even spread would have done as well."
    return f"{saved.samples:,} further samples did what an even spread needs {saved.uniform_samples:,} for."
