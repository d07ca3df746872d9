"""Which types may pass the threshold, and by when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request

if TYPE_CHECKING:
    from foreshock.analysis.page.sections import Section


def _find(request: Request) -> Section:
    from foreshock.analysis.forecast.run import ForecastOptions, run_forecast
    from foreshock.analysis.report.forecast_section import forecast_section

    options = ForecastOptions(intentional=request.intentional)
    done = run_forecast(request.sources(), request.folder / "forecast", options)
    return forecast_section(done, request.looks())


def _show(_: Request, section: Section) -> Section:
    return section


ANALYSIS = Analysis("forecast", "forecasting", "no forecast", _find, _show)
