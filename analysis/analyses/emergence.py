"""What predicts which types emerge: takes several runs, since one holds too few types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request

if TYPE_CHECKING:
    from foreshock.analysis.page.sections import Section


def _applies(request: Request) -> bool:
    return len(request.runs) > 1


def _find(request: Request) -> Section:
    from foreshock.analysis.emergence.run import EmergenceOptions, run_emergence
    from foreshock.analysis.report.emergence_section import emergence_section

    options = EmergenceOptions(intentional=request.intentional)
    return emergence_section(run_emergence(request.sources(), request.folder / "emergence", options), request.looks())


def _show(_: Request, section: Section) -> Section:
    return section


ANALYSIS = Analysis("emergence", "testing what predicts emergence", "no emergence analysis", _find, _show, _applies)
