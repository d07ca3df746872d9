"""Rates by splitting, of runs that have repeats of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request
from foreshock.analysis.analyses.per_run import any_run_has, table_of_runs
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from foreshock.analysis.page.sections import Section


def _folders(run: RunLayout) -> tuple[Path]:
    return (run.splitting,)


def _applies(request: Request) -> bool:
    return any_run_has(request, _folders)


def _find(request: Request) -> pd.DataFrame:
    from foreshock.analysis.splitting.of_runs import splitting_table

    return table_of_runs(request, _folders, lambda run: splitting_table(run, request.donor_run, request.conditioned))


def _show(request: Request, table: pd.DataFrame) -> Section:
    from foreshock.analysis.figures import write_csv
    from foreshock.analysis.page.sections import ReportTable, Section, html_table, paragraph
    from foreshock.analysis.tables import checkpoint_label

    csv = write_csv(table, request.folder / "splitting.csv")
    shown = table[["run", "checkpoint", "exploit_type", "rate", "lower95", "upper95", "trusted", "kept"]].copy()
    shown["checkpoint"] = shown["checkpoint"].map(checkpoint_label)
    shown["direct"] = [
        None if n is None or n != n else f"{k:.0f} of {n:.0f}"
        for k, n in table[["direct_k", "direct_n"]].itertuples(index=False)
    ]
    shown[["donor", "both"]] = table[["donor_rate", "combined"]].astype(float)
    return Section(
        title="Splitting",
        anchor="splitting",
        lead="Unprompted rates from each checkpoint's own beginnings, without a donor.",
        body_html=paragraph(
            "Multilevel splitting, unbiased whatever the scores are (methods, section 10). Where the spread of the "
            "repeats is too large to be believed, the limits are a twentieth of the rate and 1. `kept`: least share of "
            "beginnings that still had descendants; near 0 the estimate hangs on few. `donor`: importance sampling "
            "with the run's donor; `both`: together, where each is precise. Answers without code count as no exploit."
        )
        + html_table(shown, {"lower95": "lower 95%", "upper95": "upper 95%"}),
        tables=(ReportTable("Rates by splitting", csv),),
    )


ANALYSIS = Analysis("splitting", "rates by splitting", "rates by splitting not shown", _find, _show, _applies)
