"""The report: one self-contained HTML file that a person can mail.

    write_report(run_dirs, output, extra_sections=(), options=ReportOptions())

Other analyses add to it by passing `Section(title, anchor, body_html, figures, tables)`.
"""

from __future__ import annotations

from foreshock.analysis.report.gather import ReportOptions
from foreshock.analysis.report.sections import ReportTable, Section
from foreshock.analysis.report.write import WrittenReport, write_report

__all__ = ["ReportOptions", "ReportTable", "Section", "WrittenReport", "write_report"]
