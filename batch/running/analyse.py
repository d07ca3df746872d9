"""Every analysis of one or more runs, in order, each allowed to say that it does not apply.

An analysis whose inputs are not there (no logprobs, one checkpoint) becomes a note in the report instead of an error,
so that the others still reach the reader. The report itself must succeed. Of large runs, analyses are made side by
side: each in a process of its own, while this one makes the trajectories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshock.analysis.analyses.analysis import Analysis, Request
from foreshock.analysis.analyses.registry import ANALYSES, in_order
from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.jobs.records.exploit_types import INTENTIONAL, IntentionalTypes, intentional_types
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_files import table_size

if TYPE_CHECKING:
    import pandas as pd

    from foreshock.analysis.report import Section
    from foreshock.analysis.report.outlook import Forecast

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


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """Choices of the analyses. `also`: analyses that are made on request only; `without`: those that are not wanted.

    With `all_below`, the runs' own tables and figures go below the analyses' folder too, and nothing into the runs.
    """

    threshold: int = 10
    logprob_threshold: float | None = None
    attempts: int | None = None
    intentional: IntentionalTypes = INTENTIONAL
    donor_run: Path | None = None
    conditioned: bool = True
    also: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    all_below: bool = False


def settings_of(config: RunConfig) -> AnalysisSettings:
    """What a run's configuration asks for."""
    return AnalysisSettings(
        config.analysis.threshold,
        config.analysis.logprob_threshold,
        intentional=intentional_types(config.analysis.intentional),
        donor_run=config.analysis.donor_run,
        conditioned=config.prefill.conditioned,
    )


def analyse(
    runs: Sequence[RunLayout],
    settings: AnalysisSettings,
    folder: Path,
    report: Path,
    say: Say,
    labels: tuple[str, ...] | None = None,
    state: str | None = None,
) -> AnalysisReport:
    """Rates, forecast, emergence (of several runs), trajectories, integration and the report that shows them.

    `state`: what the caller knows of the state of a run that its status.json still calls running.

    Tables and figures go below `folder` and each run's own analysis/ folder. Raises InputError if not even the
    trajectories can be computed, which takes one usable eval row.
    """
    from foreshock.analysis.processes import keep_freed_memory, n_cores, process_pool

    done = AnalysisReport(folder, report)
    request = Request(
        tuple(run.root for run in runs),
        folder,
        labels,
        settings.donor_run,
        settings.conditioned,
        settings.intentional,
    )
    analyses = _applicable(request, settings, done.notes)
    n_processes = min(n_cores() - 1, len(analyses), _MOST_PROCESSES)
    with ExitStack() as stack:
        finders: list[Callable[[], Any]] = [partial(analysis.find, request) for analysis in analyses]
        if n_processes > 0 and sum(map(_eval_bytes, runs)) >= SIDE_BY_SIDE_BYTES:
            say("meanwhile: " + ", ".join(analysis.doing for analysis in analyses))
            keep_freed_memory()
            pool = stack.enter_context(process_pool(n_processes, keep_freed_memory))
            finders = [pool.submit(find).result for find in finders]
        # Meanwhile, the others begin.
        from foreshock.analysis.report import ReportOptions, check_anchors, gather_runs, render_report

        say("trajectories and integration")
        options = ReportOptions(
            threshold=settings.threshold,
            attempts=settings.attempts,
            logprob_threshold=settings.logprob_threshold,
            labels=labels,
            intentional=settings.intentional,
            folder=folder if settings.all_below else None,
            state=state,
        )
        findings = gather_runs([run.root for run in runs], options)
        sections: list[Section] = []
        for analysis, find in zip(analyses, finders, strict=True):
            say(analysis.doing)
            try:
                section = analysis.show(request, find())
                check_anchors([*sections, section])
                sections.append(section)
            except InputError as error:
                done.notes.append(f"{analysis.lacking}: {error}")
            except Exception as error:
                if analysis.name in ANALYSES.own:
                    raise
                origin = ANALYSES.origin(analysis.name)
                done.notes.append(f"{analysis.lacking}: {origin} failed with {type(error).__name__}: {error}")
    say("report")
    rates = _estimated_rates(sections, folder)
    forecast = _forecast(sections, folder)
    done.summary = render_report(findings, report, sections, options, rates, forecast, done.notes).summary
    return done


def _applicable(request: Request, settings: AnalysisSettings, notes: list[str]) -> list[Analysis]:
    """In the order of the report. One of an installed package that cannot be used is a note."""
    found = []
    for name in in_order():
        try:
            analysis = ANALYSES.get(name)
            wanted = name not in settings.without and (not analysis.on_request or name in settings.also)
            if wanted and analysis.applies(request):
                found.append(analysis)
        except Exception as error:
            if name in ANALYSES.own:
                raise
            notes.append(f"no analysis {name!r}: {error}")
    return found


def _eval_bytes(run: RunLayout) -> int:
    return sum(table_size(file.path) for file in run.eval_files())


def _forecast(sections: Sequence[Section], folder: Path) -> Forecast:
    """What the forecast wrote this time, if it could."""
    from foreshock.analysis.report.forecast_section import ANCHOR
    from foreshock.analysis.report.outlook import Forecast, find_forecast

    made = any(section.anchor == ANCHOR for section in sections)
    return find_forecast([folder]) if made else Forecast()


def _estimated_rates(sections: Sequence[Section], folder: Path) -> pd.DataFrame | None:
    """What `_show_rates` wrote, if it could."""
    import pandas as pd

    from foreshock.analysis.report.rates_section import ANCHOR

    made = any(section.anchor == ANCHOR for section in sections)
    return pd.read_csv(folder / "rates.csv") if made else None
