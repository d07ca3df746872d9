"""All paths and file names of foreshock: formatting and parsing, in one place.

The names are those that earlier tools wrote ("prefill{N}" counts words), so that either side reads the other's files.
Shards live beside the final files, under `shards/`, and the final files are made from them by one writer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from foreshock.jobs.records.checkpoint_names import RESULT_NAME, checkpoint_order
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobSpec
from foreshock.jobs.records.table_files import table_names

_CHECKPOINT = rf"(?P<checkpoint>{RESULT_NAME})"
_EVAL_NAME = re.compile(rf"^{_CHECKPOINT}_prefill(?P<level>\d+)\.jsonl$")
_LOGPROB_NAME = re.compile(rf"^{_CHECKPOINT}_prefill(?P<level>\d+)(?:_logprobs)?\.jsonl$")
_CHECKPOINT_NAME = re.compile(rf"^{_CHECKPOINT}\.jsonl$")
_RUN_NAME = re.compile(r"^(?P<prefix>.+)-(?P<stamp>\d{8}-\d{6})-(?P<git>[0-9a-f]{4,40}|nogit)$")


class CellName(NamedTuple):
    """A cell as its file name tells it."""

    checkpoint: str
    level: int


class CellFile(NamedTuple):
    """A table of one cell; `path` is its name, `table_files` knows where its bytes are."""

    cell: CellName
    path: Path


def run_dir_name(prefix: str, when: datetime, git_hash: str | None) -> str:
    """`{prefix}-{YYYYmmdd-HHMMSS}-{short git hash}`; `nogit` outside a repository."""
    return f"{prefix}-{when:%Y%m%d-%H%M%S}-{git_hash or 'nogit'}"


def run_prefix(name: str) -> str:
    """What a person called the run: its directory's name without time and git hash."""
    match = _RUN_NAME.match(name)
    return match["prefix"] if match else name


def checkpoint_files(folder: Path) -> list[tuple[str, Path]]:
    """Files of one checkpoint each (`checkpoint-N.jsonl`), by checkpoint."""
    names = table_names(folder)
    found = [(match["checkpoint"], folder / name) for name in names if (match := _CHECKPOINT_NAME.match(name))]
    return sorted(found, key=lambda item: checkpoint_order(item[0]))


def _list_cells(folder: Path, pattern: re.Pattern[str]) -> list[CellFile]:
    found = []
    for name in table_names(folder):
        match = pattern.match(name)
        if match:
            found.append(CellFile(CellName(match["checkpoint"], int(match["level"])), folder / name))
    return sorted(found, key=lambda file: (checkpoint_order(file.cell.checkpoint), file.cell.level))


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Paths inside one run directory, `results/prefill_sensitivity/{run}`."""

    root: Path

    @property
    def name(self) -> str:
        """The run directory's name."""
        return self.root.resolve().name

    # What was run
    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.json"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def frozen_config(self) -> Path:
        """The configuration that the run was planned with, which nobody edits."""
        return self.root / "inputs" / "config.json"

    @property
    def problem_checks(self) -> Path:
        """What checking the problems found when the run was planned."""
        return self.root / "inputs" / "problem_checks.json"

    @property
    def problems(self) -> Path:
        """The problems as they were when the run was planned."""
        return self.root / "inputs" / "problems.jsonl"

    @property
    def prefills(self) -> Path:
        """The traces in use, one row per (task, trace index)."""
        return self.root / "inputs" / "prefills.jsonl"

    @property
    def honest(self) -> Path:
        """The honest reasoning that stands before exploit code, one row a task, once it is known."""
        return self.root / "inputs" / "honest.jsonl"

    # Final tables
    @property
    def evals(self) -> Path:
        return self.root / "evals"

    @property
    def logprob(self) -> Path:
        return self.root / "logprob"

    @property
    def ref_logprob(self) -> Path:
        return self.root / "ref_logprob"

    @property
    def kl(self) -> Path:
        return self.root / "kl"

    @property
    def ground_truth(self) -> Path:
        """Extra level-0 samples, kept apart so that estimates can be set against them."""
        return self.root / "ground_truth"

    @property
    def extra(self) -> Path:
        """Level-0 attempts of adaptive rounds; evals/ keeps the same number of attempts in every cell."""
        return self.root / "extra"

    @property
    def adaptive(self) -> Path:
        """What each adaptive round decided."""
        return self.root / "adaptive"

    @property
    def exploit_logprob(self) -> Path:
        """Log-probabilities of the problems' own exploit code, one file a checkpoint."""
        return self.root / "exploit_logprob"

    @property
    def own_reasoning(self) -> Path:
        """Continuations of each checkpoint's own reasoning cut short, one file a checkpoint."""
        return self.root / "own_reasoning"

    @property
    def splitting(self) -> Path:
        """Repeats of multilevel splitting, one file a checkpoint."""
        return self.root / "splitting"

    @property
    def table_folders(self) -> tuple[Path, ...]:
        """Of the tables that aggregation writes."""
        scores = (self.logprob, self.ref_logprob, self.kl)
        return (self.evals, *scores, self.ground_truth, self.extra, self.exploit_logprob)

    def eval_file(self, checkpoint: str, level: int) -> Path:
        return self.evals / f"{checkpoint}_prefill{level}.jsonl"

    def samples_file(self, checkpoint: str, level: int) -> Path:
        return self.evals / f"{checkpoint}_prefill{level}.jsonl.samples.jsonl"

    def logprob_file(self, checkpoint: str, level: int) -> Path:
        return self.logprob / f"{checkpoint}_prefill{level}_logprobs.jsonl"

    def ref_logprob_file(self, reference: str, level: int) -> Path:
        return self.ref_logprob / f"{reference}_prefill{level}_logprobs.jsonl"

    def kl_file(self, checkpoint: str, level: int) -> Path:
        return self.kl / f"{checkpoint}_prefill{level}_kl.jsonl"

    def ground_truth_file(self, checkpoint: str) -> Path:
        return self.ground_truth / f"{checkpoint}_prefill0.jsonl"

    def extra_file(self, checkpoint: str) -> Path:
        return self.extra / f"{checkpoint}_prefill0.jsonl"

    def exploit_logprob_file(self, checkpoint: str) -> Path:
        return self.exploit_logprob / f"{checkpoint}.jsonl"

    def eval_files(self) -> list[CellFile]:
        """Eval files present, by checkpoint then level."""
        return _list_cells(self.evals, _EVAL_NAME)

    def logprob_files(self) -> list[CellFile]:
        """Logprob files present, under either of their two names."""
        return _list_cells(self.logprob, _LOGPROB_NAME)

    def score_files(self, folder: Path) -> list[CellFile]:
        """The same of any other folder."""
        return _list_cells(folder, _LOGPROB_NAME)

    def ref_logprob_files(self) -> list[CellFile]:
        return _list_cells(self.ref_logprob, _LOGPROB_NAME)

    def ground_truth_files(self) -> list[CellFile]:
        return _list_cells(self.ground_truth, _EVAL_NAME)

    def extra_files(self) -> list[CellFile]:
        return _list_cells(self.extra, _EVAL_NAME)

    @property
    def admission(self) -> Path:
        """What each checkpoint showed when its weights were loaded; the plan holds what its files showed."""
        return self.root / "admission"

    # Work in progress
    @property
    def shards(self) -> Path:
        return self.root / "shards"

    @property
    def bundles(self) -> Path:
        """Sealed shards of large runs, many in one file."""
        return self.shards / "bundles"

    @property
    def progress(self) -> Path:
        return self.root / "progress"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def progress_file(self, task_index: int) -> Path:
        return self.progress / f"task-{task_index:05d}.json"

    def shard_folder(self, spec: JobSpec) -> Path:
        """Folder of a spec's shard: one per kind and cell (logprob specs span levels, so theirs has no level)."""
        level = spec.levels[0] if spec.kind in SAMPLED_KINDS else None
        return self.shards / spec.kind.value / shard_folder_name(spec.checkpoint.name, level)

    def shard_file(self, spec: JobSpec) -> Path:
        """Where it is sealed; see `ShardStore.sealed` for where it is."""
        return self.shard_folder(spec) / f"{spec.shard_index:05d}-{spec.key()[:12]}.jsonl"

    def manifest_file(self, spec: JobSpec) -> Path:
        return self.shard_file(spec).with_suffix(".manifest.json")

    def parts_folder(self, spec: JobSpec) -> Path:
        """Finished micro-batches of a shard that is not sealed yet."""
        return self.shard_file(spec).with_suffix(".parts")

    # Analysis
    @property
    def analysis(self) -> Path:
        return self.root / "analysis"

    @property
    def report(self) -> Path:
        return self.root / "report.html"


def shard_folder_name(checkpoint: str, level: int | None) -> str:
    """Last part of `RunLayout.shard_folder`: a hundred thousand Paths take a second to make."""
    return checkpoint if level is None else f"{checkpoint}_prefill{level}"


@dataclass(frozen=True, slots=True)
class ResultsLayout:
    """Paths below `results/`."""

    root: Path

    @property
    def sensitivity(self) -> Path:
        return self.root / "prefill_sensitivity"

    def checkpoints(self, sft_run: str) -> Path:
        return self.root / "sft_checkpoints" / sft_run / "checkpoints"

    def run(self, name: str) -> RunLayout:
        return RunLayout(self.sensitivity / name)

    def trajectory(self, run: str) -> Path:
        return self.root / "trajectory_analysis" / run

    def full_analysis(self, when: datetime) -> Path:
        return self.root / "full_analysis" / f"full_analysis-{when:%Y%m%d-%H%M%S}"

    def runs(self) -> list[RunLayout]:
        """Run directories, newest first by the time in their name (then by modification time)."""
        if not self.sensitivity.is_dir():
            return []

        def order(path: Path) -> tuple[str, float]:
            match = _RUN_NAME.match(path.name)
            return (match["stamp"] if match else "", path.stat().st_mtime)

        folders = [path for path in self.sensitivity.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return [RunLayout(path) for path in sorted(folders, key=order, reverse=True)]
