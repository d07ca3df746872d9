"""The report: one self-contained HTML file that a person can mail.

    write_report(run_dirs, output, extra_sections=(), options=ReportOptions())

or, where sections are made meanwhile, its two halves `gather_runs` and `render_report`.

Other analyses add to it by passing `Section(title, anchor, body_html, figures, tables)`.
"""

from __future__ import annotations

from foreshock.analysis.page.sections import ReportTable, Section
from foreshock.analysis.report.gather import ReportOptions
from foreshock.analysis.report.write import WrittenReport, check_anchors, gather_runs, render_report, write_report

__all__ = [
    "ReportOptions",
    "ReportTable",
    "Section",
    "WrittenReport",
    "check_anchors",
    "gather_runs",
    "render_report",
    "write_report",
]
