"""What adaptive attempts saved, of one run that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    from foreshock.analysis.page.sections import Section


def _applies(request: Request) -> bool:
    return len(request.runs) == 1 and RunLayout(request.runs[0]).adaptive.is_dir()


def _find(request: Request) -> Section:
    from foreshock.analysis.report.adaptive_section import adaptive_section

    return adaptive_section(RunLayout(request.runs[0]), request.folder, request.donor_run, request.conditioned)


def _show(_: Request, section: Section) -> Section:
    return section


ANALYSIS = Analysis(
    "adaptive",
    "comparing adaptive attempts with an even spread",
    "adaptive attempts not compared",
    _find,
    _show,
    _applies,
)
