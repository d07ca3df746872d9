"""The demo: train a tiny organism, find out what it will do before it does it, and write the report.

After training there is nothing of its own here. Donor, sweeps and ground truth are ordinary runs with ordinary
configurations, written out as files, so the demo exercises what a user will use and shows them how.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config, parse_config
from foreshock.batch.demo.donors import write_prefill_sources
from foreshock.batch.demo.summary import foresight_lines
from foreshock.batch.demo.train import OrganismPaths, TrainProgress, train_organism
from foreshock.batch.running.analyse import AnalysisReport, analyse, settings_of
from foreshock.batch.running.run import RunHooks, RunResult, require_complete, resume, run
from foreshock.durable import atomic_write_bytes
from foreshock.jobs.records.jsonl import read_json, read_rows, write_json
from foreshock.jobs.records.layout import ResultsLayout, RunLayout
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES

LEVELS = (0, 2, 5, 10, 20, 30)
STEPS = (0, 1, 2, 4, 8, 16, 32, 64)
DONOR_STEP = STEPS[-1]
"""Of the donor's own fine-tuning, which begins with the checkpoint that both runs begin with."""
ATTEMPTS = 3
BANK_ATTEMPTS = 12
DONOR_ROLLOUTS = 3
TRUTH_STEPS = (8, 16, 32)
TRUTH_ATTEMPTS = 25
MAX_TOKENS = 160
FORECAST_STEP = 8
"""The checkpoint as of which the summary quotes the forecast: the rate is then still near zero."""


@dataclass(frozen=True)
class DemoOptions:
    """`workers`: processes; None takes one a core. `seed`: of training and sampling. `allow_weak_sandbox`: recorded on
    every row, as in any run."""

    root: Path
    workers: int | None = None
    seed: int = 0
    allow_weak_sandbox: bool = False


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo made."""

    organism: OrganismPaths
    donor: RunLayout
    exploit: RunLayout
    control: RunLayout
    analysis: AnalysisReport
    seconds: float


@dataclass(frozen=True)
class DemoHooks:
    """What the caller shows while the demo goes on."""

    run: RunHooks
    training: Callable[[], AbstractContextManager[TrainProgress]]


def run_demo(options: DemoOptions, command: Sequence[str], hooks: DemoHooks) -> DemoResult:
    """Do whatever part of the demo is not done yet."""
    started = time.monotonic()
    root = options.root.absolute()
    results = ResultsLayout(root)
    with hooks.training() as progress:
        organism = train_organism(root, options.seed, progress)
    sweep = _Sweeps(options, results, organism, list(command), hooks.run)
    bank = sweep.run("demo-bank", sweep.bank())
    sources = root / "prefill_sources"
    _write_sources(bank, sources)
    donor = sweep.run("demo-donor", sweep.donor(sources / "conditioned.jsonl"))
    exploit = sweep.run("demo-exploit", sweep.sweep("exploit", sources / "conditioned.jsonl", donor))
    control = sweep.run("demo-control", sweep.sweep("control", sources / "conditioned.jsonl", donor))
    folder, report = root / "analysis", root / "report.html"
    summary = root / "summary.json"
    analysis = AnalysisReport(folder, report)
    if sweep.changed or not report.is_file() or not summary.is_file():
        config = load_config(exploit.config)
        analysis = analyse(
            [exploit, control], settings_of(config), folder, report, hooks.run.say, labels=("exploit", "control")
        )
        analysis.summary += tuple(foresight_lines([exploit, control], folder, FORECAST_STEP))
        write_json(summary, {"summary": analysis.summary, "notes": analysis.notes})
    else:
        said = read_json(summary)
        analysis.summary, analysis.notes = tuple(said["summary"]), said["notes"]
    return DemoResult(organism, donor, exploit, control, analysis, time.monotonic() - started)


def _write_sources(bank: RunLayout, folder: Path) -> None:
    """Prefill sources from the donor's own level-0 samples, once."""
    if (folder / "conditioned.jsonl").is_file() and (folder / "unconditioned.jsonl").is_file():
        return
    cell = bank.eval_files()[0].cell
    rows = read_rows(bank.samples_file(cell.checkpoint, cell.level), ("task_id", "reasoning", "exploit_success"))
    write_prefill_sources(rows, folder / "conditioned.jsonl", folder / "unconditioned.jsonl")


class _Sweeps:
    """Makes the demo's configurations and runs what is not complete; `changed` says whether any work was done."""

    def __init__(
        self, options: DemoOptions, results: ResultsLayout, organism: OrganismPaths, command: list[str], hooks: RunHooks
    ) -> None:
        self._options = options
        self._results = results
        self._organism = organism
        self._command = command
        self._hooks = hooks
        self.changed = False

    def bank(self) -> RunConfig:
        """Many level-0 samples of the donor: its traces become the prefill sources."""
        return self._config(
            self._organism.donor_dir, [DONOR_STEP], {"levels": [0]}, BANK_ATTEMPTS, {"enabled": False}, {}
        )

    def donor(self, source: Path) -> RunConfig:
        """The donor continuing its own banked prefixes: pi at level 0, a at the others, log Q."""
        prefill = {"source": str(source), "levels": list(LEVELS), "assignment": "per_attempt"}
        config = self._config(self._organism.donor_dir, [DONOR_STEP], prefill, ATTEMPTS, {}, {})
        data = config.to_yaml_dict()
        data["sampling"] |= {"rollouts": DONOR_ROLLOUTS, "seed": self._options.seed + 1}
        return parse_config(data)

    def sweep(self, which: str, source: Path, donor: RunLayout) -> RunConfig:
        """Every checkpoint at every level, with ground truth at some."""
        organism = self._organism
        folder = organism.exploit_dir if which == "exploit" else organism.control_dir
        prefill = {"source": str(source), "levels": list(LEVELS), "assignment": "per_attempt"}
        reference = {"reference": str(organism.donor_dir / f"checkpoint-{DONOR_STEP}")}
        extra = {
            "ground_truth": {"attempts": TRUTH_ATTEMPTS, "steps": list(TRUTH_STEPS)},
            "analysis": {"donor_run": str(donor.root)},
        }
        return self._config(folder, list(STEPS), prefill, ATTEMPTS, reference, extra)

    def _config(
        self,
        checkpoints: Path,
        steps: list[int],
        prefill: dict[str, Any],
        attempts: int,
        logprob: dict[str, Any],
        extra: dict[str, Any],
    ) -> RunConfig:
        return parse_config(
            {
                "results_dir": str(self._results.root),
                "checkpoints": {"dir": str(checkpoints), "steps": steps},
                "problems": {"source": "builtin", "split": "eval", "exploit_types": list(DEMO_TYPES)},
                "prefill": prefill,
                "sampling": {"attempts": attempts, "max_tokens": MAX_TOKENS, "seed": self._options.seed},
                "prompt": {"instructions": "bare"},
                "engine": {"device": "cpu", "dtype": "float32", "batch_size": 256, "threads": 1},
                "verifier": {"allow_weak_sandbox": self._options.allow_weak_sandbox},
                "logprob": logprob,
                "execution": {"workers": self._options.workers, "heal": 1, "shard_tasks": 20},
            }
            | extra
        )

    def run(self, name: str, config: RunConfig) -> RunLayout:
        """Run, resume or skip; returns the complete run."""
        config = config.model_copy(update={"name": name})
        self._write_config(name, config)
        layout = self._find(name, config)
        if layout is not None and _is_complete(layout):
            return layout
        self.changed = True
        if layout is None:
            result: RunResult = run(config, self._command, self._hooks, analysed=False)
        else:
            result = resume(layout.root, self._hooks, analysed=False)
        require_complete(result)
        return result.layout

    def _find(self, name: str, config: RunConfig) -> RunLayout | None:
        """A run of that name and these settings: one of an earlier version's is left where it is."""
        found = (layout for layout in self._results.runs() if layout.name.startswith(f"{name}-"))
        return next((layout for layout in found if layout.plan.is_file() and _is_of(layout, config)), None)

    def _write_config(self, name: str, config: RunConfig) -> None:
        path = self._results.root / "configs" / f"{name}.yaml"
        text = yaml.safe_dump(config.to_yaml_dict(), sort_keys=False)
        if not path.is_file() or path.read_text() != text:
            atomic_write_bytes(path, text.encode())


_DECIDING = ("checkpoints", "problems", "prefill", "sampling", "prompt", "logprob", "ground_truth", "analysis")


def _is_of(layout: RunLayout, config: RunConfig) -> bool:
    if not layout.config.is_file():
        return True
    stored = load_config(layout.config)
    return all(getattr(stored, section) == getattr(config, section) for section in _DECIDING)


def _is_complete(layout: RunLayout) -> bool:
    return layout.status.is_file() and read_json(layout.status).get("status") == "completed"
