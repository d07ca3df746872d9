"""The report's section on the forecast: what may pass the threshold, by when, and how good such forecasts were."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.figures.values import rows_of, samples_of
from foreshock.analysis.forecast.figures import FORECASTS_TABLE
from foreshock.analysis.forecast.run import ForecastRun
from foreshock.analysis.forecast.sensitivity import sensitivity_summary
from foreshock.analysis.page.links import SampleCell
from foreshock.analysis.page.sections import (
    ReportTable,
    Section,
    column_of,
    computed_from,
    html_table,
    paragraph,
    percent,
)
from foreshock.analysis.report.behind import forecasts_table
from foreshock.analysis.surfaces.cells import SURFACE

ANCHOR = "forecast"
_MIN_SCORED = 8
_SCORE_NAMES = {
    "checkpoints_seen": "checkpoints seen",
    "n": "types at risk",
    "n_positive": "emerged later",
    "brier": "Brier score",
    "brier_base": "Brier of the base rate",
    "log_score": "log score",
    "log_base": "log score of the base rate",
}


def forecast_section(run: ForecastRun, looks: RunLooks | None = None) -> Section:
    """A `Section` from a finished forecast."""
    threshold = f"{100 * float(str(run.summary['threshold'])):g}%"
    horizon = f"{float(str(run.summary['horizon'])):.0f}"
    body = [
        paragraph(
            f"For every exploit type: the probability that its unprompted rate passes {threshold} at any step up to "
            f"{horizon}, and the step at which that happens. A growth curve is fitted to each type, sharing strength "
            "between types and runs; exploit rates after a prefill and the prefill's own probability tell where the "
            "unprompted rate lies while no exploit has been seen yet."
        ),
        html_table(
            _outlook(run, looks or RunLooks.named(run.times["run"])),
            {
                "p_by_horizon": f"P(passes by step {horizon})",
                "step_median": "median step",
                "step_lower90": "earliest (5%)",
                "step_upper90": "latest (95%)",
                "rests_on": "rests on",
            },
        ),
        paragraph(
            "A dash means beyond the last step forecast to. Where the last column says prior, this sweep's data say "
            "nothing and the line is the prior's; prior growth: the data say where the rate is, hardly how fast it "
            "moves. Each line holds alone: of many 90% intervals about one in ten misses."
        ),
        _whole_traces(run.whole_traces),
        _track_record(run.scores),
        forecasts_table(run.past, looks or RunLooks.named(run.times["run"])),
        _direction(run.past),
        _sensitivity(run.sensitivity),
    ]
    names = {
        "Probabilities by step": "forecast.csv",
        "Times to threshold": "time_to_threshold.csv",
        "Past forecasts": "past_forecasts.csv",
        "Scores of past forecasts": "forecast_scores.csv",
        "Predicting the rate itself": "trajectory_predictions.csv",
        "Which measure predicts the final rate": "predictor_comparison.csv",
        "Other priors, and without each level": "sensitivity.csv",
        "Whole traces": "whole_traces.csv",
    }
    files = {title: run.directory / name for title, name in names.items()}
    return Section(
        title="What may come",
        anchor=ANCHOR,
        lead=f"{run.summary['expected_to_emerge']} of {run.summary['n_surfaces']} exploit types (counted per run) are "
        f"more likely than not to pass {threshold} by step {horizon}.",
        body_html=str(Markup("").join(body)),
        figures=run.figures,
        tables=tuple(ReportTable(title, path) for title, path in files.items() if path.exists()),
    )


def _outlook(run: ForecastRun, looks: RunLooks) -> pd.DataFrame:
    columns = [
        "run",
        "exploit_type",
        "p_by_horizon",
        "step_lower90",
        "step_median",
        "step_upper90",
        "status",
        "rests_on",
    ]
    shown = run.times.sort_values("p_by_horizon", ascending=False)[columns].head(24)
    where = [samples_of(looks.name(row.run), kind=row.exploit_type) for row in rows_of(shown)]
    steps = [column for column in columns if column.startswith("step_")]
    linked = {
        column: column_of(
            "–" if pd.isna(value) else SampleCell(at, percent(value) if column not in steps else f"{value:,.0f}")
            for at, value in zip(where, shown[column], strict=True)
        )
        for column in ("p_by_horizon", *steps)
    }
    return shown.assign(**linked)


def _whole_traces(table: pd.DataFrame) -> Markup:
    """The last checkpoint's change of each type, the largest first."""
    if table.empty:
        return Markup("")
    last = table[table["checkpoint"] == table.groupby("run")["checkpoint"].transform("max")]
    shown = last.sort_values("trace_change", ascending=False).head(24)
    text = (
        "Whole exploit traces, reasoning and code, under each checkpoint: how many nats likelier they have become "
        "since the first one, and the code's part. The same traces are read every time, so this moves before exploits "
        "are frequent enough to count; it is a score and not a rate (docs/early-warning.md)."
    )
    names = {
        "trace_change": "nats since the first checkpoint",
        "trace_change_se": "standard error",
        "code_change": "of which code",
        "n_traces": "traces",
    }
    columns = ["run", "exploit_type", "checkpoint", "n_traces", "trace_change", "trace_change_se", "code_change"]
    return paragraph(text) + html_table(shown[columns], names)


def _track_record(scores: pd.DataFrame) -> Markup:
    if scores.empty:
        return paragraph("There are too few checkpoints to score earlier forecasts.")
    shown = scores[scores["group"] == "at risk"].dropna(subset=["brier"])
    shown = shown.assign(checkpoints_seen=shown["cutoff_idx"] + 1)
    text = (
        "The same forecast, made as of each earlier checkpoint for the types that had not emerged by then, scored "
        "against what was measured later. Lower is better; the base rate is the share of those types that "
        "did emerge, which nobody could have known at the time."
    )
    numbers = list(_SCORE_NAMES)[1:]
    linked = computed_from(shown[["checkpoints_seen", *numbers]], FORECASTS_TABLE, numbers)
    return paragraph(text) + html_table(linked, _SCORE_NAMES)


def _direction(past: pd.DataFrame) -> Markup:
    """Whether this run's earlier forecasts promised too much or too little, and whether that could be chance."""
    if past.empty:
        return Markup("")
    known = past[past["at_risk"].astype(bool)].dropna(subset=["p_exceed", "outcome_probability"])
    said = []
    for name, part in (
        ("at most three checkpoints", known[known["cutoff_idx"] <= 2]),
        ("four or more", known[known["cutoff_idx"] > 2]),
    ):
        if len(part) < _MIN_SCORED:
            continue
        forecast, came = float(part["p_exceed"].mean()), float((part["outcome_probability"] > 0.5).mean())
        types = part.groupby(SURFACE).ngroups
        noise = 2 * float(np.sqrt(max(came * (1 - came), 0.01) / types))
        word = "too little" if came > forecast else "too much"
        verdict = f"they promised {word}" if abs(came - forecast) > noise else "no clear error either way"
        said.append(f"with {name} they averaged {forecast:.2f} and {came:.2f} came true ({types} types; {verdict})")
    return paragraph("Of these earlier forecasts, " + "; ".join(said) + ".") if said else Markup("")


def _sensitivity(table: pd.DataFrame) -> Markup:
    if table.empty:
        return Markup("")
    text = (
        "Appendix: the same forecast with other priors and without each prefill level. The columns hold how much the "
        "probability of passing by the last step changes, on average and at most over the types; changes of a few "
        "hundredths are the sampling noise of these quicker fits."
    )
    names = {"mean_change": "mean change of P", "largest_change": "largest change of P"}
    linked = computed_from(sensitivity_summary(table), f"{ANCHOR}-files", list(names))
    return paragraph(text) + html_table(linked, names)
