"""What an analysis is to those who run it, and what it is asked for.

This is what a package of yours offers under the entry-point group `foreshock.analyses`; CONTRIBUTING.md says how.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshock.jobs.records.exploit_types import INTENTIONAL, IntentionalTypes
from foreshock.jobs.records.layout import RunLayout

if TYPE_CHECKING:
    from foreshock.analysis.figures.palette import RunLooks
    from foreshock.analysis.page.sections import Section
    from foreshock.analysis.surfaces.cells import RunSource


@dataclass(frozen=True, slots=True)
class Request:
    """Runs to analyse. `labels`: how to call each, one per run, or None for their own names.

    Tables and figures go below `folder`. `donor_run` holds the donor's own rollouts; `conditioned`: prefill sources
    keep only traces that ended in an exploit. `intentional`: exploit types that are predicted.
    """

    runs: tuple[Path, ...]
    folder: Path
    labels: tuple[str, ...] | None = None
    donor_run: Path | None = None
    conditioned: bool = True
    intentional: IntentionalTypes = INTENTIONAL

    def named(self) -> list[tuple[Path, str]]:
        """Each run and how it is called: its label, else its own name."""
        labels = self.labels or tuple(RunLayout(run).name for run in self.runs)
        return list(zip(self.runs, labels, strict=True))

    def looks(self) -> RunLooks:
        """The runs' colours and order in every figure."""
        from foreshock.analysis.figures.palette import RunLooks

        return RunLooks.of(self.runs, self.labels)

    def sources(self) -> list[RunSource]:
        """Runs and labels, as the analyses of several runs take them."""
        from foreshock.analysis.surfaces.cells import RunSource

        labels = self.labels or (None,) * len(self.runs)
        return [RunSource(path, label) for path, label in zip(self.runs, labels, strict=True)]


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    name: as the registry has it. doing: what is said before it is made. lacking: what its note begins with when it
    cannot be. applies: whether the runs are of a kind that it is about; of other runs nothing is said. find: does the
    work, possibly in another process, so it is a function of a module and what it returns can be pickled; raises
    InputError where the runs lack what it needs. show: writes tables and figures and describes them. on_request: only
    made where it is asked for (`foreshock analyse`), not after every sweep.

    Import what is heavy inside these functions: every process imports every analysis.
    """

    name: str
    doing: str
    lacking: str
    find: Callable[[Request], Any]
    show: Callable[[Request, Any], Section]
    applies: Callable[[Request], bool] = lambda _: True
    on_request: bool = False
