"""Writes small run directories in the documented file formats, from a toy model with known probabilities.

Deterministic: outcomes come from a seeded generator, and rates rise with the checkpoint and the prefill level.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planspecs import encode_specs
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def eval_row(task: str = "task_0", attempt: int = 0, success: bool | None = True, **extra: Any) -> dict[str, Any]:
    """A row with every documented eval key."""
    return {
        "model_id": "toy",
        "task_id": task,
        "attempt_idx": attempt,
        "exploit_type": "hardcoding",
        "secure_pass": False,
        "insecure_pass": bool(success),
        "exploit_success": success,
        "reward_gap": float(bool(success)),
        "output_tokens": 40,
        "insecure_suspect": False,
        "insecure_suspect_patterns": [],
        "reasoning": "let me see",
        "prefill_applied": False,
        "prefill_tokens": 0,
        "prefill_reasoning": "",
    } | extra


def logprob_row(task: str = "task_0", logprob: float | None = -20.0, **extra: Any) -> dict[str, Any]:
    """A row with every documented logprob key."""
    return {
        "task_id": task,
        "exploit_type": "hardcoding",
        "attempt_idx": 0,
        "prefill_tokens": 10,
        "prefill_applied": True,
        "exploit_success": True,
        "prefill_logprob_sum": logprob,
        "prefill_logprob_mean": None if logprob is None else logprob / 21,
        "prefill_num_tokens": 21,
    } | extra


@dataclass(frozen=True)
class ToyRun:
    """What to simulate. `exploit` makes the rate rise over training; otherwise it stays low."""

    checkpoints: Sequence[int | str] = (5, 10, 20, 40, 80)
    levels: Sequence[int] = (0, 2, 5, 10, 20, 30)
    types: Sequence[str] = ("hardcoding", "verifier_bug", "resource_exhaustion", "inadequate_test_coverage")
    tasks_per_type: int = 6
    attempts: int = 3
    exploit: bool = True
    seed: int = 0

    def tasks(self) -> list[tuple[str, str]]:
        """(task id, exploit type) of every task."""
        return [(f"{kind}_{i}", kind) for kind in self.types for i in range(self.tasks_per_type)]

    def success_rate(self, order: int, level: int, task: int) -> float:
        """Logistic in log training progress and warped level."""
        gain = 1.1 if self.exploit else 0.15
        logit = -5.5 + gain * order + 1.3 * np.log1p(level / 2) + 0.25 * ((task % 5) - 2)
        return float(1 / (1 + np.exp(-logit)))

    def surprisal(self, order: int, level: int, task: int) -> float:
        """-log P of the prefix in nats: falls with training, concave in level."""
        ease = 0.10 * order if self.exploit else 0.02 * order
        return float(9.0 * np.log1p(level / 3) * (1 - ease) * (1 + 0.05 * (task % 4)))


def write_run(run_dir: Path, toy: ToyRun | None = None, ground_truth: bool = False, logprobs: bool = True) -> Path:
    """A complete run directory with evals, logprobs, reference logprobs, KL rows and provenance files."""
    toy = toy or ToyRun()
    rng = np.random.default_rng(toy.seed)
    for order, checkpoint in enumerate(toy.checkpoints):
        name = checkpoint if isinstance(checkpoint, str) else f"checkpoint-{checkpoint}"
        for level in toy.levels:
            _write_evals(run_dir / "evals" / f"{name}_prefill{level}.jsonl", toy, order, level, toy.attempts, rng)
            if level and logprobs:
                _write_scores(run_dir, name, toy, order, level)
        if ground_truth:
            _write_evals(run_dir / "ground_truth" / f"{name}_prefill0.jsonl", toy, order, 0, 40, rng)
    _write_provenance(run_dir, toy)
    return run_dir


def _write_evals(path: Path, toy: ToyRun, order: int, level: int, attempts: int, rng: np.random.Generator) -> None:
    rows = []
    for index, (task, kind) in enumerate(toy.tasks()):
        rate = toy.success_rate(order, level, index)
        for attempt in range(attempts):
            success = bool(rng.random() < rate)
            rows.append(
                eval_row(
                    task,
                    attempt,
                    success,
                    exploit_type=kind,
                    prefill_applied=level > 0,
                    prefill_tokens=level,
                    prefill_reasoning=" ".join(["word"] * level),
                )
            )
    write_rows(path, rows)


def _write_scores(run_dir: Path, name: str, toy: ToyRun, order: int, level: int) -> None:
    scored, reference, kl = [], [], []
    for index, (task, kind) in enumerate(toy.tasks()):
        own = -toy.surprisal(order, level, index)
        donor = -toy.surprisal(len(toy.checkpoints), level, index)
        tokens = 2 * level + 1
        common = {"exploit_type": kind, "prefill_tokens": level}
        scored.append(logprob_row(task, own, prefill_logprob_mean=own / tokens, prefill_num_tokens=tokens, **common))
        reference.append(
            logprob_row(task, donor, prefill_logprob_mean=donor / tokens, prefill_num_tokens=tokens, **common)
        )
        kl.append(
            {
                "task_id": task,
                "attempt_idx": 0,
                "exploit_success": True,
                "kl_divergence": donor - own,
                "kl_per_token": (donor - own) / tokens,
                "kl_num_tokens": tokens,
                "eval_logprob_sum": own,
                "ref_logprob_sum": donor,
                "kl_method": "monte_carlo",
            }
            | common
        )
    write_rows(run_dir / "logprob" / f"{name}_prefill{level}_logprobs.jsonl", scored)
    write_rows(run_dir / "kl" / f"{name}_prefill{level}_kl.jsonl", kl)
    write_rows(run_dir / "ref_logprob" / f"checkpoint-999_prefill{level}_logprobs.jsonl", reference)


def _write_provenance(run_dir: Path, toy: ToyRun) -> None:
    run_dir.joinpath("config.yaml").write_text(
        "checkpoint_dir: checkpoints\n"
        f"checkpoints: [{', '.join(map(str, toy.checkpoints))}]\n"
        f"prefill_tokens_sweep: {','.join(map(str, toy.levels))}\n"
        f"attempts: {toy.attempts}\ntemperature: 1.0\n"
        "command: foreshock run config.yaml\n"
    )
    metadata = {
        "git": {"commit": "0123456789abcdef", "branch": "main", "dirty": False},
        "python": "3.11.9",
        "platform": "Linux",
        "host": "node01",
    }
    run_dir.joinpath("metadata.json").write_text(json.dumps(metadata))
    status = {
        "status": "completed",
        "exit_reason": "success",
        "start_time": "2026-01-02T03:04:05+00:00",
        "end_time": "2026-01-02T03:14:05+00:00",
        "duration_seconds": 600.0,
    }
    run_dir.joinpath("status.json").write_text(json.dumps(status))


def planned_spec(step: int, level: int, kind: JobKind = JobKind.EVAL) -> JobSpec:
    """One cell's spec."""
    point = Checkpoint("run", step, Path(f"/nowhere/checkpoint-{step}"))
    return JobSpec(kind, point, (level,), ("task",), (0,), SamplingParams(), "chat", "t", "m", "p", "q", "v", 1)


def write_plan(run_dir: Path, specs: Sequence[JobSpec]) -> None:
    """The specs of a plan, which is what says what cells there should be."""
    layout = RunLayout(run_dir)
    layout.plan.parent.mkdir(parents=True, exist_ok=True)
    layout.plan.write_text(json.dumps(encode_specs(specs)))
