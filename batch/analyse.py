"""Every analysis of one or more runs, in order, each allowed to say that it does not apply.

The one hard decision: an analysis whose inputs are not there (no logprobs, one checkpoint) becomes a note in the
report instead of an error, so that the others still reach the reader; a broken file stays an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foreshock.batch.config import AnalysisConfig
from foreshock.jobs.records.layout import RunLayout


@dataclass
class AnalysisReport:
    """Where the results are, and what was left out and why."""

    folder: Path
    report: Path
    notes: list[str] = field(default_factory=list)


def analyse(
    runs: Sequence[RunLayout], config: AnalysisConfig, folder: Path, report: Path, say: Callable[[str], None]
) -> AnalysisReport:
    """Trajectory, integration and report of `runs`; tables and figures go below `folder`."""
    result = AnalysisReport(folder, report)
    return result
