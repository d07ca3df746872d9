"""From existing runs to a folder of results: missing log-probabilities, every analysis, one report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.analysis.report.gather import run_labels
from foreshock.batch.on_files.score import RunScorer, ScoreOptions, ScoreReport
from foreshock.batch.reanalysis.source import Scoring, check_run, scoring_of
from foreshock.batch.reanalysis.view import LeftOut, make_view, tasks_to_drop
from foreshock.batch.running.analyse import AnalysisReport, AnalysisSettings, analyse
from foreshock.batch.running.provenance import recorded_status, write_metadata
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.layout import CellFile, RunLayout
from foreshock.jobs.records.table_files import table_names, table_size
from foreshock.jobs.records.table_gaps import gap_lines

Say = Callable[[str], None]
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be analysed, and how.

    logprobs: for each run, a folder with its log-probabilities in place of its own logprob/; or none. rescore: score
    all prefills anew. skip_logprob: compute none.
    """

    runs: tuple[RunLayout, ...]
    settings: AnalysisSettings
    labels: tuple[str, ...] | None = None
    logprobs: tuple[Path, ...] = ()
    checkpoint_dirs: tuple[Path, ...] = ()
    temperature: float | None = None
    skip_logprob: bool = False
    rescore: bool = False
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: how it is called, the files of its log-probabilities, what is missing of them, and the tasks that are
    left out of it with their exploit types."""

    run: RunLayout
    label: str
    logprobs: tuple[CellFile, ...]
    scoring: Scoring
    left_out: Mapping[str, str]

    def lines(self) -> list[str]:
        """What would happen, for people."""
        cells = self.run.eval_files()
        said = [f"{self.label}: {self.run.root}, {len(cells)} cells, {len(self.logprobs)} with log-probabilities"]
        said += [f"  {line}" for line in gap_lines(self.run.root)]
        if self.left_out:
            said.append(f"  {len(self.left_out)} tasks are left out as asked for")
        scoring = self.scoring
        if scoring.cells:
            at = ", ".join(checkpoint.name for checkpoint in scoring.checkpoints)
            said.append(f"  log-probabilities of {len(scoring.cells)} cells are computed ({at}), at temperature "
                        f"{scoring.temperature:g}")  # fmt: skip
        left = len(scoring.missing) - len(scoring.cells)
        if left:
            said.append(f"  log-probabilities of {left} cells stay missing: {scoring.why_not or 'no such checkpoint'}")
        return said


@dataclass(frozen=True, slots=True)
class Reanalysis:
    """Where the results are and what was found."""

    folder: Path
    analysis: AnalysisReport
    notes: tuple[str, ...]


def plan_reanalysis(request: Request) -> list[PlannedRun]:
    """What there is and what is to be computed; nothing is written.

    Raises:
        InputError: a run without evals, labels or folders that do not fit the runs, nothing to leave out or nothing
            left.
    """
    for name, given in (("--logprob-dirs", request.logprobs), ("--checkpoint-dir", request.checkpoint_dirs)):
        if given and len(given) != len(request.runs):
            raise InputError(f"{name} is given {len(given)} times for {len(request.runs)} runs; give it once per run")
    for run in request.runs:
        check_run(run)
    labels = run_labels([run.root for run in request.runs], request.labels)
    bad = [label for label in labels if not _LABEL.fullmatch(label)]
    if bad or len(set(labels)) != len(labels):
        raise InputError(
            f"labels {', '.join(labels)} cannot name folders; they must differ and consist of letters, digits and .-_+",
            fix="name the runs with --labels A,B",
        )
    left_out = tasks_to_drop(request.runs, request.left_out)
    return [
        _plan_run(request, i, run, label, tasks)
        for i, (run, label, tasks) in enumerate(zip(request.runs, labels, left_out, strict=True))
    ]


def _plan_run(request: Request, i: int, run: RunLayout, label: str, left_out: Mapping[str, str]) -> PlannedRun:
    files = _cells_in(request.logprobs[i]) if request.logprobs else run.logprob_files()
    files = [file for file in files if table_size(file.path) > 0] if not request.rescore else []
    folder = request.checkpoint_dirs[i] if request.checkpoint_dirs else None
    scoring = scoring_of(run, [file.cell for file in files], folder, request.temperature)
    if request.skip_logprob and scoring.missing:
        scoring = Scoring(scoring.missing, why_not="--skip-logprob")
    return PlannedRun(run, label, tuple(files), scoring, left_out)


def _cells_in(folder: Path) -> list[CellFile]:
    """Files of log-probabilities in a run directory, or in a folder of nothing else."""
    inside = RunLayout(folder).logprob_files()
    found = inside or RunLayout(folder).score_files(folder)
    if not found:
        raise InputError("no checkpoint-N_prefillL_logprobs.jsonl or checkpoint-N_prefillL.jsonl here", path=folder)
    return found


def reanalyse(
    request: Request, planned: Sequence[PlannedRun], folder: Path, document: Mapping[str, Any], say: Say
) -> Reanalysis:
    """Carry out what was planned; every result goes below `folder`, and nothing into the runs.

    `document` is config.yaml. Raises InputError where not even trajectories can be computed.
    """
    import yaml

    if folder.exists() and any(folder.iterdir()):
        raise InputError("the output folder is not empty", path=folder, fix="choose another --output-dir")
    context = RunLayout(folder)
    atomic_write_bytes(context.config, yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True).encode())
    write_metadata(context)
    with recorded_status(context) as status:
        notes: list[str] = []
        views = _views(request, planned, folder, notes, say)
        settings = request.settings
        done = analyse(views, settings, folder, context.report, say, tuple(item.label for item in planned))
        if len(planned) == 1 and "emergence" not in settings.without:
            notes.append("no emergence analysis: it takes two runs or more, e.g. an exploit and a control run")
        done.notes[:0] = notes
        status["notes"] = done.notes
        return Reanalysis(folder, done, tuple(done.notes))


def _views(
    request: Request, planned: Sequence[PlannedRun], folder: Path, notes: list[str], say: Say
) -> list[RunLayout]:
    several = len(planned) > 1
    views = []
    for item in planned:
        scored = folder / "logprob" / item.label if several else folder / "logprob"
        notes += _score(item, scored, say)
        new = [scored / name for name in table_names(scored) if name.endswith(".jsonl")]
        view = RunLayout(folder / "runs" / item.label)
        dropped = make_view(item.run, view, [*(file.path for file in item.logprobs), *new], item.left_out)
        if request.left_out:
            notes.append(f"{item.label}: {len(item.left_out)} tasks left out as asked for, {dropped} attempts")
        views.append(view)
    return views


def _score(item: PlannedRun, output: Path, say: Say) -> list[str]:
    """Compute what can be computed of a run's missing log-probabilities; returns what a reader must know."""
    scoring = item.scoring
    stay = [line.strip() for line in item.lines()[1:] if "stay missing" in line]
    notes = [f"{item.label}: {note}" for note in (*gap_lines(item.run.root), *stay)]
    if not scoring.cells:
        return notes
    say(f"{item.label}: log-probabilities of {len(scoring.cells)} cells")
    options = ScoreOptions(scoring.temperature, "auto", "auto", "auto", 64, False, None, False)
    try:
        for checkpoint in scoring.checkpoints:
            options.require_admitted(checkpoint)
        with options.engine() as engine:
            report: ScoreReport = RunScorer(
                run=item.run,
                checkpoints=scoring.checkpoints,
                output=output,
                engine=engine,
                format_of=options.format_of,
                temperature=scoring.temperature,
                only=scoring.cells,
            ).score()
    except InputError as error:
        return [*notes, f"{item.label}: log-probabilities not computed: {error}"]
    notes.append(
        f"{item.label}: {report.n_rows} log-probabilities computed at temperature {scoring.temperature:g}"
        + (f", {report.n_failed} failed" if report.n_failed else "")
        + (f"; {report.n_without_sample} attempts have no samples row, so no prompt" if report.n_without_sample else "")
    )
    return [
        *notes,
        *(f"{item.label}: {cell} scored with the prefills of {donor}" for cell, donor in report.borrowed.items()),
    ]
