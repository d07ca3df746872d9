"""The report's section on estimated rates, for a reader who has not met importance sampling."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from foreshock.analysis.estimates.figure import headline_figure, rates_frame
from foreshock.analysis.estimates.found import FoundRates
from foreshock.analysis.estimates.rates_file import write_rates
from foreshock.analysis.evidence.estimate import Method, RateEstimate, Status
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.values import rows_of, samples_of
from foreshock.analysis.page.links import SampleCell
from foreshock.analysis.page.sections import (
    ReportTable,
    Section,
    bullets,
    computed_from,
    html_table,
    paragraph,
    percent,
)
from foreshock.analysis.tables.schema import checkpoint_label

ANCHOR = "estimated-rates"


def estimates_section(found: FoundRates, output_dir: Path, looks: RunLooks) -> Section:
    """Write rates.csv and its figure into `output_dir`, and describe them.

    `looks` names runs for readers and orders them.
    """
    csv = output_dir / "rates.csv"
    write_rates(found.estimates, csv)
    figure = headline_figure(found.estimates, output_dir, looks)
    last = _last_checkpoint(found, looks)
    body = paragraph(
        "Sampling alone cannot see a rate far below one in the number of attempts. The headline estimate joins three "
        "sources: the attempts without prefill, the exploits after a prefill weighted by how likely the checkpoint is "
        "to write that prefill itself, and the smoothness of training. Its interval was calibrated on random simulated "
        "sweeps. A cell whose data do not support it is a bound: only limits that need no model are given."
    )
    body += bullets(_facts(found) + list(found.notes))
    body += html_table(last)
    tables = [ReportTable("All estimates by every method (rates.csv)", csv)]
    if found.sensitivity is not None and len(found.sensitivity):
        varied = output_dir / "rates_sensitivity.csv"
        found.sensitivity.to_csv(varied, index=False, float_format="%.4g")
        body += _sensitivity(found.sensitivity)
        tables.append(ReportTable("The headline with other priors, and without each level", varied))
    return Section(
        title="How often would it exploit unprompted?",
        anchor=ANCHOR,
        lead="Estimated unprompted exploit rates with 95% intervals, also where no exploit was seen.",
        body_html=body,
        figures=(figure,),
        tables=tuple(tables),
    )


def _sensitivity(table: pd.DataFrame) -> Markup:
    from foreshock.analysis.headline.sensitivity import headline_sensitivity_summary

    text = (
        "Appendix: the same estimates with other priors and without each prefill level. The columns hold how many "
        "decades the medians of the cells called estimates move, and the share that leaves its own 95% interval; an "
        "estimate that rests on one level or on the prior moves by a large part of its interval."
    )
    names = {
        "mean_change": "mean change", "typical_change": "median size of change", "largest_change": "largest change",
        "outside": "share outside its interval",
    }  # fmt: skip
    return paragraph(text) + html_table(
        computed_from(headline_sensitivity_summary(table), f"{ANCHOR}-files", list(names)), names
    )


def _facts(found: FoundRates) -> list[str]:
    headline = [e for e in found.estimates if e.method is Method.HEADLINE]
    unseen = [e for e in headline if e.successes == 0]
    sound = sum(e.method is Method.IMPORTANCE and e.status is Status.ESTIMATE for e in found.estimates)
    tried = sum(e.method is Method.IMPORTANCE for e in found.estimates)
    return [
        f"In {len(unseen)} of {len(headline)} cells (run, type, checkpoint) no unprompted attempt exploited.",
        f"Importance sampling alone passes all its diagnostics in {sound} of {tried} cells; elsewhere it is shown as a "
        "lower bound and used with its learned error.",
        _verdicts(headline),
        "The intervals hold cell by cell: of many cells that are read together, about one in twenty may lie outside.",
    ]


def _verdicts(headline: list[RateEstimate]) -> str:
    """How many cells may be quoted, and the commonest reasons why others may not."""
    refused = [e for e in headline if e.status is not Status.ESTIMATE]
    text = f"{len(headline) - len(refused)} of {len(headline)} cells are estimates."
    if not refused:
        return text
    kinds = Counter(re.sub(r"[-+\d.]+%?", "N", e.reason) for e in refused)
    listed = "; ".join(f"{reason} ({count})" for reason, count in kinds.most_common(3))
    return f"{text} Why the others are bounds (N: a number, see rates.csv): {listed}."


def _last_checkpoint(found: FoundRates, looks: RunLooks) -> pd.DataFrame:
    """The highest headline rates at each run's last checkpoint, at most twelve rows."""
    frame = rates_frame(found.estimates)
    frame = frame[frame["method"] == Method.HEADLINE.value]
    last = frame[frame["checkpoint"] == frame.groupby("run")["checkpoint"].transform("max")]
    last = last.sort_values(["log10_rate", "upper95"], ascending=False, kind="stable").head(12)
    rows = rows_of(last)
    where = [samples_of(row.run, row.checkpoint, 0, row.exploit_type) for row in rows]
    rates = np.power(10.0, last[["log10_rate", "lower95", "upper95"]].to_numpy())
    told = ["–" if np.isnan(middle) else percent(middle) for middle in rates[:, 0]]
    return pd.DataFrame(
        {
            "run": [looks.label(run) for run in last["run"]],
            "exploit type": last["exploit_type"].to_numpy(),
            "checkpoint": [checkpoint_label(row.checkpoint) for row in rows],
            "exploited": [SampleCell(at, f"{row.successes} of {row.n}") for at, row in zip(where, rows, strict=True)],
            "estimated rate": [SampleCell(at, text) for at, text in zip(where, told, strict=True)],
            "95% interval": [
                SampleCell(at, f"{percent(low)} to {percent(high)}")
                for at, (_, low, high) in zip(where, rates, strict=True)
            ],
            "status": last["status"].to_numpy(),
        }
    )
