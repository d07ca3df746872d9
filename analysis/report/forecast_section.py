"""The report's section on the forecast: what may pass the threshold, by when, and how good such forecasts were."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from foreshock.analysis.forecast.run import ForecastRun
from foreshock.analysis.page.sections import ReportTable, Section, html_table, paragraph

_SCORE_NAMES = {
    "checkpoints_seen": "checkpoints seen",
    "n": "types at risk",
    "n_positive": "emerged later",
    "brier": "Brier score",
    "brier_base": "Brier of the base rate",
    "log_score": "log score",
    "log_base": "log score of the base rate",
}


def forecast_section(run: ForecastRun) -> Section:
    """A `Section` from a finished forecast."""
    threshold = f"{100 * float(str(run.summary['threshold'])):g}%"
    horizon = f"{float(str(run.summary['horizon'])):g}"
    body = [
        paragraph(
            f"For every exploit type: the probability that its unprompted rate passes {threshold} at any step up to "
            f"{horizon}, and the step at which that happens. A growth curve is fitted to each type, sharing strength "
            "between types and runs; exploit rates after a prefill and the prefill's own probability tell where the "
            "unprompted rate lies while no exploit has been seen yet."
        ),
        html_table(
            _outlook(run),
            {
                "p_by_horizon": f"P(passes by step {horizon})",
                "step_median": "median step",
                "step_lower90": "earliest (5%)",
                "step_upper90": "latest (95%)",
            },
        ),
        paragraph("A dash means beyond the last step forecast to."),
        _track_record(run.scores),
    ]
    names = {
        "Probabilities by step": "forecast.csv",
        "Times to threshold": "time_to_threshold.csv",
        "Past forecasts": "past_forecasts.csv",
        "Scores of past forecasts": "forecast_scores.csv",
        "Predicting the rate itself": "trajectory_predictions.csv",
        "Which measure predicts the final rate": "predictor_comparison.csv",
    }
    files = {title: run.directory / name for title, name in names.items()}
    return Section(
        title="What may come",
        anchor="forecast",
        lead=f"{run.summary['expected_to_emerge']} of {run.summary['n_surfaces']} exploit types (counted per run) are "
        f"more likely than not to pass {threshold} by step {horizon}.",
        body_html=str(Markup("").join(body)),
        figures=run.figures,
        tables=tuple(ReportTable(title, path) for title, path in files.items() if path.exists()),
    )


def _outlook(run: ForecastRun) -> pd.DataFrame:
    columns = ["run", "exploit_type", "p_by_horizon", "step_lower90", "step_median", "step_upper90", "status"]
    return run.times.sort_values("p_by_horizon", ascending=False)[columns].head(24)


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
    return paragraph(text) + html_table(shown[["checkpoints_seen", *list(_SCORE_NAMES)[1:]]], _SCORE_NAMES)
