"""Every analysis of one or more runs, in order, each allowed to say that it does not apply.

An analysis whose inputs are not there (no logprobs, one checkpoint) becomes a note in the report instead of an error,
so that the others still reach the reader. The report itself must succeed. Of large runs, analyses are made side by
side: each in a process of its own, while this one makes the trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    import pandas as pd

    from foreshock.analysis.estimates.found import FoundRates
    from foreshock.analysis.report import Section

Say = Callable[[str], None]

SIDE_BY_SIDE_BYTES = 1 << 29
"""Bytes of eval tables from which analyses are made side by side: below, starting processes takes as long."""

_MOST_PROCESSES = 2
"""Besides this one; each may hold a run's attempts: gigabytes in all."""


@dataclass
class AnalysisReport:
    """Where the results are, what was found in a few sentences, and what was left out and why."""

    folder: Path
    report: Path
    summary: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


class _Analysis(NamedTuple):
    """What is said before it is made, what its note begins with if it cannot be, how it is found (which may be in
    another process), and how that becomes a section (drawn in this one)."""

    doing: str
    lacking: str
    find: Callable[[], Any]
    show: Callable[[Any], Section] = lambda section: section


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
    from foreshock.analysis.processes import keep_freed_memory, n_cores, process_pool

    done = AnalysisReport(folder, report)
    analyses = list(_analyses(runs, config, folder, labels))
    n_processes = min(n_cores() - 1, len(analyses), _MOST_PROCESSES)
    with ExitStack() as stack:
        finders = [analysis.find for analysis in analyses]
        if n_processes > 0 and sum(map(_eval_bytes, runs)) >= SIDE_BY_SIDE_BYTES:
            say("meanwhile: " + ", ".join(analysis.doing for analysis in analyses))
            keep_freed_memory()
            pool = stack.enter_context(process_pool(n_processes, keep_freed_memory))
            finders = [pool.submit(find).result for find in finders]
        from foreshock.analysis.report import ReportOptions, gather_runs, render_report  # meanwhile, the others begin

        say("trajectories and integration")
        options = ReportOptions(
            threshold=config.analysis.threshold, logprob_threshold=config.analysis.logprob_threshold, labels=labels
        )
        findings = gather_runs([run.root for run in runs], options)
        sections = []
        for analysis, find in zip(analyses, finders, strict=True):
            say(analysis.doing)
            try:
                sections.append(analysis.show(find()))
            except InputError as error:
                done.notes.append(f"{analysis.lacking}: {error}")
    say("report")
    rates = _estimated_rates(sections, folder)
    done.summary = render_report(findings, report, sections, options, rates).summary
    return done


def _analyses(
    runs: Sequence[RunLayout], config: RunConfig, folder: Path, labels: tuple[str, ...] | None
) -> Iterator[_Analysis]:
    """In the order of the report; what they find, and how, can be pickled."""
    paths = [run.root for run in runs]
    donor, conditioned = config.analysis.donor_run, config.prefill.conditioned
    sources = list(zip(paths, labels or [None] * len(paths), strict=True))
    names = dict(zip((path.name for path in paths), labels or (), strict=False))
    yield _Analysis(
        "estimating unprompted rates",
        "no rate estimates",
        partial(_find_rates, paths, donor, conditioned),
        partial(_show_rates, folder, names),
    )
    if len(runs) == 1 and runs[0].adaptive.is_dir():
        yield _Analysis(
            "comparing adaptive attempts with an even spread",
            "adaptive attempts not compared",
            partial(_adaptive, runs[0], folder, donor, conditioned),
        )
    yield _Analysis("forecasting", "no forecast", partial(_forecast, sources, folder / "forecast"))
    if len(runs) > 1:
        yield _Analysis(
            "testing what predicts emergence",
            "no emergence analysis",
            partial(_emergence, sources, folder / "emergence"),
        )


def _eval_bytes(run: RunLayout) -> int:
    return sum(path.stat().st_size for path in run.evals.glob("checkpoint-*_prefill*.jsonl"))


def _find_rates(paths: list[Path], donor: Path | None, conditioned: bool) -> FoundRates:
    from foreshock.analysis.estimates.found import find_rates

    return find_rates(paths, donor, conditioned)


def _show_rates(folder: Path, names: dict[str, str], found: FoundRates) -> Section:
    from foreshock.analysis.report.rates_section import estimates_section

    return estimates_section(found, folder, names)


def _estimated_rates(sections: Sequence[Section], folder: Path) -> pd.DataFrame | None:
    """What `_show_rates` wrote, if it could."""
    import pandas as pd

    from foreshock.analysis.report.rates_section import ANCHOR

    made = any(section.anchor == ANCHOR for section in sections)
    return pd.read_csv(folder / "rates.csv") if made else None


def _adaptive(run: RunLayout, folder: Path, donor: Path | None, conditioned: bool) -> Section:
    from foreshock.analysis.report.adaptive_section import adaptive_section

    return adaptive_section(run, folder, donor, conditioned)


def _forecast(sources: list[tuple[Path, str | None]], folder: Path) -> Section:
    from foreshock.analysis.forecast.run import run_forecast
    from foreshock.analysis.report.forecast_section import forecast_section
    from foreshock.analysis.surfaces.cells import RunSource

    return forecast_section(run_forecast([RunSource(path, label) for path, label in sources], folder))


def _emergence(sources: list[tuple[Path, str | None]], folder: Path) -> Section:
    from foreshock.analysis.emergence.run import run_emergence
    from foreshock.analysis.report.emergence_section import emergence_section
    from foreshock.analysis.surfaces.cells import RunSource

    return emergence_section(run_emergence([RunSource(path, label) for path, label in sources], folder))
