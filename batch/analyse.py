"""Every analysis of one or more runs, in order, each allowed to say that it does not apply.

The one hard decision: an analysis whose inputs are not there (no logprobs, one checkpoint) becomes a note in the
report instead of an error, so that the others still reach the reader. The report itself must succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    import pandas as pd

    from foreshock.analysis.emergence.run import RunSource
    from foreshock.analysis.report import Section

Say = Callable[[str], None]


@dataclass
class AnalysisReport:
    """Where the results are, what was found in a few sentences, and what was left out and why."""

    folder: Path
    report: Path
    summary: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def analyse(
    runs: Sequence[RunLayout],
    config: RunConfig,
    folder: Path,
    report: Path,
    say: Say,
    labels: tuple[str, ...] | None = None,
) -> AnalysisReport:
    """Rates, forecast, emergence (of several runs), trajectories, integration and the report that shows them.

    Tables and figures go below `folder` and each run's own analysis/ folder. Raises InputError if not even the
    trajectories can be computed, which takes one usable eval row.
    """
    from foreshock.analysis.emergence.run import RunSource
    from foreshock.analysis.report import ReportOptions, write_report

    done = AnalysisReport(folder, report)
    paths = [run.root for run in runs]
    sections: list[Section] = []
    rates = _rates(paths, labels, config, folder, say, done, sections)
    sources = [RunSource(path, label) for path, label in zip(paths, labels or [None] * len(paths), strict=True)]
    if len(runs) == 1 and runs[0].adaptive.is_dir():
        _adaptive(runs[0], config, folder, say, done, sections)
    _forecast(sources, folder, say, done, sections)
    if len(runs) > 1:
        _emergence(sources, folder, say, done, sections)
    say("trajectories, integration and report")
    options = ReportOptions(
        threshold=config.analysis.threshold, logprob_threshold=config.analysis.logprob_threshold, labels=labels
    )
    written = write_report(paths, report, sections, options, rates)
    done.summary = written.summary
    return done


def _rates(
    paths: list[Path],
    labels: tuple[str, ...] | None,
    config: RunConfig,
    folder: Path,
    say: Say,
    done: AnalysisReport,
    sections: list[Section],
) -> pd.DataFrame | None:
    import pandas as pd

    from foreshock.analysis.estimates.section import estimates_section

    say("estimating unprompted rates")
    names = dict(zip((path.name for path in paths), labels or (), strict=False))
    try:
        sections.append(estimates_section(paths, folder, config.analysis.donor_run, config.prefill.conditioned, names))
    except InputError as error:
        done.notes.append(f"no rate estimates: {error}")
        return None
    return pd.read_csv(folder / "rates.csv")


def _adaptive(
    run: RunLayout, config: RunConfig, folder: Path, say: Say, done: AnalysisReport, sections: list[Section]
) -> None:
    from foreshock.analysis.adaptive.section import adaptive_section

    say("comparing adaptive attempts with an even spread")
    try:
        sections.append(adaptive_section(run, folder, config.analysis.donor_run, config.prefill.conditioned))
    except InputError as error:
        done.notes.append(f"adaptive attempts not compared: {error}")


def _forecast(sources: list[RunSource], folder: Path, say: Say, done: AnalysisReport, sections: list[Section]) -> None:
    from foreshock.analysis.forecast.run import run_forecast
    from foreshock.analysis.forecast.section import forecast_section

    say("forecasting")
    try:
        sections.append(forecast_section(run_forecast(sources, folder / "forecast")))
    except InputError as error:
        done.notes.append(f"no forecast: {error}")


def _emergence(sources: list[RunSource], folder: Path, say: Say, done: AnalysisReport, sections: list[Section]) -> None:
    from foreshock.analysis.emergence.run import run_emergence
    from foreshock.analysis.emergence.section import emergence_section

    say("testing what predicts emergence")
    try:
        sections.append(emergence_section(run_emergence(sources, folder / "emergence")))
    except InputError as error:
        done.notes.append(f"no emergence analysis: {error}")
