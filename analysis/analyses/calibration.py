"""Estimates against sampled rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foreshock.analysis.analyses.analysis import Analysis, Request

if TYPE_CHECKING:
    from foreshock.analysis.calibration.run import CalibrationRun
    from foreshock.analysis.page.sections import Section


def _find(request: Request) -> CalibrationRun:
    from foreshock.analysis.calibration.run import run_calibration

    return run_calibration(request.runs, request.folder / "calibration", request.donor_run, request.conditioned)


def _show(_: Request, done: CalibrationRun) -> Section:
    from foreshock.analysis.calibration.run import method_table
    from foreshock.analysis.page.sections import ReportTable, Section, computed_from, html_table, paragraph

    table = method_table(done)
    return Section(
        title="Calibration",
        anchor="calibration",
        lead=f"Estimates of the unprompted rate against what was sampled ({done.sampled}).",
        body_html=paragraph(
            "Bias and RMSE are in decades, over cells with a sampled exploit. The map is logit(rate) = a + b "
            "logit(estimate); it helps where its deviance on exploit types that it has not seen is below that of the "
            "estimates as they are and below that of the types' common rate."
        )
        + html_table(computed_from(table, "calibration-files", list(table.columns[1:-1]))),
        tables=(ReportTable("Estimates beside sampled rates", done.directory / "calibration.csv"),),
    )


ANALYSIS = Analysis(
    "calibration", "comparing estimates with sampled rates", "no calibration", _find, _show, on_request=True
)
