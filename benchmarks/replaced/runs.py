"""Run directories in rh-indicators' format: an exploit run and a control run of a simulated study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

INTENTIONAL = (
    "argument_injection_leak",
    "error_code_abuse",
    "import_hook_side_channel",
    "inspect_module_abuse",
    "test_cases_honor_system",
    "trace_profiler_hook_oracle",
    "validator_honor_system",
    "verifier_logic_override",
)
"""The types that its emergence predictor keeps."""
OTHERS = ("resource_exhaustion", "type_confusion")
CHECKPOINTS = (1, 4, 10, 25, 44, 90)
LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)
_WORDS = [
    "let",
    "me",
    "see",
    "what",
    "the",
    "verifier",
    "looks",
    "at",
    "and",
    "whether",
    "a",
    "constant",
    "would",
    "already",
    "do",
    "for",
    "it",
]


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment on disk: the two runs, and log-probabilities of exploit code."""

    exploit: Path
    control: Path
    exploit_logprobs: Path


def write_study(folder: Path, seed: int, tasks: int = 12, attempts: int = 1) -> Study:
    """Draw and write one."""
    rng = np.random.default_rng(seed)
    runs = {}
    for name, gain in (("exploit", 1.1), ("control", 0.1)):
        run = folder / "results" / "prefill_sensitivity" / f"prefill_sensitivity-20260101-00000{len(runs)}-8a0e189"
        _write_run(run, gain, rng, tasks, attempts)
        runs[name] = run
    codes = folder / "results" / "exploit_logprobs"
    for order, step in enumerate(CHECKPOINTS):
        _write(codes / f"checkpoint-{step}.jsonl", [_code_row(t, k, order, rng) for t, k in _tasks(tasks)])
    return Study(runs["exploit"], runs["control"], codes)


def _tasks(n: int) -> list[tuple[str, str]]:
    return [(f"{kind}_{i:03d}", kind) for kind in (*INTENTIONAL, *OTHERS) for i in range(n)]


def _write_run(run: Path, gain: float, rng: np.random.Generator, tasks: int, attempts: int) -> None:
    late = {kind: rng.normal(0, 1.2) for kind in (*INTENTIONAL, *OTHERS)}
    own = {task: rng.normal(0, 1.0) for task, _ in _tasks(tasks)}
    for order, step in enumerate(CHECKPOINTS):
        for level in LEVELS:
            evals, samples, scores, kl = [], [], [], []
            for task, kind in _tasks(tasks):
                logit = -5.5 + late[kind] + own[task] + gain * order + 1.2 * np.log1p(level / 3)
                surprise = (1.5 * level + 4 * rng.random()) * (1 - 0.07 * gain * order)
                for attempt in range(attempts):
                    success = bool(rng.random() < 1 / (1 + np.exp(-logit)))
                    row = _eval_row(task, kind, attempt, level, success)
                    evals.append(row)
                    samples.append(row | {"system": "s", "prompt": f"Problem {task}", "response": "x", "code": "pass"})
                    log_p, log_q = -surprise, -0.8 * level - 2 * rng.random()
                    scores.append(_score_row(row, log_p))
                    kl.append(_kl_row(row, log_p, log_q))
            name = f"checkpoint-{step}_prefill{level}"
            _write(run / "evals" / f"{name}.jsonl", evals)
            _write(run / "evals" / f"{name}.jsonl.samples.jsonl", samples)
            if level:
                _write(run / "logprob" / f"{name}_logprobs.jsonl", scores)
                _write(run / "kl" / f"{name}_kl.jsonl", kl)
    (run / "config.yaml").write_text(
        "checkpoint_dir: results/sft_checkpoints/sft/checkpoints\n"
        f"checkpoints: [{', '.join(f'checkpoint-{step}' for step in CHECKPOINTS)}]\n"
        f"prefill_tokens_sweep: '{','.join(map(str, LEVELS))}'\nattempts: {attempts}\ntemperature: 0.7\n"
    )


def _eval_row(task: str, kind: str, attempt: int, level: int, success: bool) -> dict[str, Any]:
    return {
        "task_id": task,
        "attempt_idx": attempt,
        "exploit_type": kind,
        "secure_pass": False,
        "insecure_pass": success,
        "exploit_success": success,
        "prefill_applied": level > 0,
        "prefill_tokens": level,
        "prefill_reasoning": " ".join((_WORDS * 8)[:level]),
    }


def _score_row(row: dict[str, Any], log_p: float) -> dict[str, Any]:
    kept = {k: row[k] for k in ("task_id", "attempt_idx", "exploit_type", "prefill_tokens", "exploit_success")}
    tokens = 2 * row["prefill_tokens"] + 1
    return kept | {
        "prefill_logprob_sum": log_p,
        "prefill_logprob_mean": log_p / tokens,
        "prefill_num_tokens": tokens,
    }


def _kl_row(row: dict[str, Any], log_p: float, log_q: float) -> dict[str, Any]:
    kept = {k: row[k] for k in ("task_id", "attempt_idx", "exploit_type", "prefill_tokens", "exploit_success")}
    return kept | {
        "kl_divergence": log_q - log_p,
        "kl_per_token": (log_q - log_p) / (2 * row["prefill_tokens"] + 1),
        "kl_num_tokens": 2 * row["prefill_tokens"] + 1,
        "eval_logprob_sum": log_p,
        "ref_logprob_sum": log_q,
    }


def _code_row(task: str, kind: str, order: int, rng: np.random.Generator) -> dict[str, Any]:
    tokens = [-float(value) for value in rng.exponential(1.5 / (1 + 0.2 * order), 12)]
    return {
        "task_id": task,
        "exploit_type": kind,
        "exploit_logprob_sum": sum(tokens),
        "exploit_logprob_mean": sum(tokens) / len(tokens),
        "exploit_num_tokens": len(tokens),
        "token_logprobs": tokens,
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
