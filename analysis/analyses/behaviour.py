"""What the checkpoints of planned runs showed at admission, and how they behave in their unprompted rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    from foreshock.analysis.page.sections import Section


def _applies(request: Request) -> bool:
    return any(RunLayout(run).plan.is_file() for run in request.runs)


def _find(request: Request) -> Section:
    from foreshock.analysis.report.behaviour_section import behaviour_section

    runs = [(RunLayout(run), label) for run, label in request.named()]
    return behaviour_section([(run, label) for run, label in runs if run.plan.is_file()], request.folder)


def _show(_: Request, section: Section) -> Section:
    return section


ANALYSIS = Analysis(
    "behaviour", "how the checkpoints behave", "behaviour of the checkpoints not shown", _find, _show, _applies
)
