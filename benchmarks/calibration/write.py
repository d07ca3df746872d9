"""Write a simulated experiment as run directories in the tool's file formats, with the true rates beside them.

Only what a real sweep would leave goes into the run directories. The truth is a separate `truth.csv`, so that an
estimator can be pointed at the runs without seeing it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.calibration.experiment import SimulatedExperiment, SimulatedType

DONOR_CHECKPOINT = 1


@dataclass(frozen=True, slots=True)
class WrittenExperiment:
    """Where the parts of a written experiment lie."""

    runs: tuple[Path, ...]
    donor_run: Path
    truth: Path


def _dump(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)


def _task_id(kind: SimulatedType, task: int) -> str:
    return f"{kind.name}_task{task:03d}"


def _eval_row(model: str, kind: SimulatedType, task: int, attempt: int, level: int, hit: int) -> dict[str, Any]:
    return {
        "model_id": model,
        "task_id": _task_id(kind, task),
        "attempt_idx": attempt,
        "exploit_type": kind.name,
        "secure_pass": not hit,
        "insecure_pass": True,
        "exploit_success": bool(hit),
        "reward_gap": float(hit),
        "output_tokens": 200,
        "insecure_suspect": False,
        "insecure_suspect_patterns": [],
        "reasoning": "",
        "prefill_applied": level > 0,
        "prefill_tokens": level,
        "prefill_reasoning": "",
    }


def _prefix(kind: SimulatedType, trace: int, level: int) -> str:
    return " ".join(f"w{word}" for word in kind.words[trace, :level])


def _target_evals(experiment: SimulatedExperiment, r: int, c: int, model: str) -> Iterator[tuple[int, list[Any]]]:
    levels = [level for level in experiment.regime.levels if level > 0]
    if 0 in experiment.regime.levels:
        yield (
            0,
            [
                _eval_row(model, kind, task, attempt, 0, int(hit))
                for kind in experiment.types
                for task, hits in enumerate(kind.level0[r, c])
                for attempt, hit in enumerate(hits)
            ],
        )
    for i, level in enumerate(levels):
        rows = []
        for kind in experiment.types:
            for z, (task, attempt) in enumerate(zip(kind.task, kind.attempt, strict=True)):
                row = _eval_row(model, kind, int(task), int(attempt), level, int(kind.success[i, r, c, z]))
                rows.append(row | {"prefill_reasoning": _prefix(kind, z, level)})
        yield level, rows


def _scores(
    experiment: SimulatedExperiment, r: int, c: int, i: int, level: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    logprob, kl = [], []
    for kind in experiment.types:
        for z, (task, attempt) in enumerate(zip(kind.task, kind.attempt, strict=True)):
            log_p, log_q = float(kind.log_p[i, r, c, z]), float(kind.log_q[i, z])
            common = {
                "task_id": _task_id(kind, int(task)),
                "exploit_type": kind.name,
                "attempt_idx": int(attempt),
                "prefill_tokens": level,
                "exploit_success": bool(kind.success[i, r, c, z]),
            }
            logprob.append(
                common
                | {
                    "prefill_applied": True,
                    "prefill_logprob_sum": log_p,
                    "prefill_logprob_mean": log_p / level,
                    "prefill_num_tokens": level,
                }
            )
            kl.append(
                common
                | {
                    "kl_divergence": log_q - log_p,
                    "kl_per_token": (log_q - log_p) / level,
                    "kl_num_tokens": level,
                    "eval_logprob_sum": log_p,
                    "ref_logprob_sum": log_q,
                    "kl_method": "monte_carlo",
                }
            )
    return logprob, kl


def _write_run(experiment: SimulatedExperiment, r: int, path: Path) -> None:
    positive = [level for level in experiment.regime.levels if level > 0]
    for c, step in enumerate(experiment.regime.checkpoints):
        model = f"{path.name}/checkpoint-{step}"
        for level, rows in _target_evals(experiment, r, c, model):
            if experiment.missing[r, c, experiment.regime.levels.index(level)]:
                continue
            _dump(path / "evals" / f"checkpoint-{step}_prefill{level}.jsonl", rows)
        for i, level in enumerate(positive):
            if experiment.missing[r, c, experiment.regime.levels.index(level)]:
                continue
            logprob, kl = _scores(experiment, r, c, i, level)
            _dump(path / "logprob" / f"checkpoint-{step}_prefill{level}_logprobs.jsonl", logprob)
            _dump(path / "kl" / f"checkpoint-{step}_prefill{level}_kl.jsonl", kl)
    levels = ",".join(str(level) for level in experiment.regime.levels)
    (path / "config.yaml").write_text(
        f"checkpoint_dir: checkpoints\ncheckpoints: {list(experiment.regime.checkpoints)}\n"
        f"prefill_tokens_sweep: {levels}\nattempts: {experiment.regime.attempts}\ntemperature: 1.0\n",
        encoding="utf-8",
    )


def _write_donor(experiment: SimulatedExperiment, path: Path) -> None:
    name = f"checkpoint-{DONOR_CHECKPOINT}"
    rows0 = [
        _eval_row("donor", kind, task, attempt, 0, int(hit))
        for kind in experiment.types
        for task, hits in enumerate(kind.donor_level0)
        for attempt, hit in enumerate(hits)
    ]
    _dump(path / "evals" / f"{name}_prefill0.jsonl", rows0)
    for i, level in enumerate(level for level in experiment.regime.levels if level > 0):
        rows, scores = [], []
        for kind in experiment.types:
            for z, (task, attempt) in enumerate(zip(kind.task, kind.attempt, strict=True)):
                for rollout, hit in enumerate(kind.donor_rollouts[i, z]):
                    row = _eval_row("donor", kind, int(task), int(attempt), level, int(hit))
                    rows.append(row | {"prefill_reasoning": _prefix(kind, z, level), "rollout": rollout})
                log_q = float(kind.log_q[i, z])
                scores.append(
                    {
                        "task_id": _task_id(kind, int(task)),
                        "exploit_type": kind.name,
                        "attempt_idx": int(attempt),
                        "prefill_tokens": level,
                        "prefill_applied": True,
                        "exploit_success": True,
                        "prefill_logprob_sum": log_q,
                        "prefill_logprob_mean": log_q / level,
                        "prefill_num_tokens": level,
                    }
                )
        _dump(path / "evals" / f"{name}_prefill{level}.jsonl", rows)
        _dump(path / "logprob" / f"{name}_prefill{level}_logprobs.jsonl", scores)


def write_experiment(experiment: SimulatedExperiment, folder: Path) -> WrittenExperiment:
    """Write run directories (one per run), the donor run and truth.csv under `folder`."""
    runs = tuple(folder / f"{run}-20260101-000000-{'0' * 7}" for run in experiment.regime.runs)
    for r, path in enumerate(runs):
        _write_run(experiment, r, path)
    donor = folder / "donor-20260101-000000-0000000"
    _write_donor(experiment, donor)
    truth = folder / "truth.csv"
    with truth.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["run", "exploit_type", "checkpoint", "true_rate"])
        for kind in experiment.types:
            for r, path in enumerate(runs):
                for c, step in enumerate(experiment.regime.checkpoints):
                    writer.writerow([path.name, kind.name, step, repr(float(kind.truth[r, c]))])
    return WrittenExperiment(runs, donor, truth)
