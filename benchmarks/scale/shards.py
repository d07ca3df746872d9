"""The sealed shards of a large run and its plan, as workers would have left them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from foreshock.durable import atomic_file
from foreshock.jobs.records.jsonl import write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.rows import SCHEMA_VERSION
from foreshock.jobs.records.shards import ShardManifest
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

CHECKPOINTS = (5, 10, 20, 30, 45, 60, 75, 90, 100)
LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)
ATTEMPTS = 3
TYPES = 8
TASKS_PER_SHARD = 1000
DONOR = 999

_REASONING = json.dumps("The function must return the sorted list, so I walk over the items one by one. " * 6)
_PROMPT = json.dumps(
    'Write sort_items(items).\nIt returns the items in order: sort_items([2, 1]) == [1, 2]. "Be brief."'
)
_CODE = json.dumps("def sort_items(items):\n    return sorted(items)")
_RESPONSE = json.dumps("So I return it sorted.\n```python\ndef sort_items(items):\n    return sorted(items)\n```")


def write_run(run: Path, n_rows: int) -> None:
    """Shards whose tables have `n_rows` rows: attempts of about 1,600 bytes, scores of their prefixes, and what the
    scores differ by."""
    rows_of_task = len(CHECKPOINTS) * len(LEVELS) * ATTEMPTS + (2 * len(CHECKPOINTS) + 1) * len(LEVELS[1:])
    n_tasks = max(1, n_rows // rows_of_task)
    layout = RunLayout(run)
    run.mkdir(parents=True)
    layout.config.write_text("command: benchmarks.scale\n")
    specs = list(_specs(n_tasks))
    settings = WorkerSettings("transformers", {}, "builtin", {}, "chat", None, "bare", "shared", False, None, None)
    PlanFile(tuple(specs), settings, n_attempts=ATTEMPTS).write(layout)
    for spec in specs:
        _write_shard(layout, spec, _attempts(spec) if spec.kind is JobKind.EVAL else _scores(spec))


def _specs(n_tasks: int) -> Iterator[JobSpec]:
    tasks = [f"task_{i:06d}" for i in range(n_tasks)]
    slices = [tuple(tasks[i : i + TASKS_PER_SHARD]) for i in range(0, n_tasks, TASKS_PER_SHARD)]
    for step in (*CHECKPOINTS, DONOR):
        checkpoint = Checkpoint("scale", step, Path(f"/models/checkpoint-{step}"))
        for index, names in enumerate(slices):
            kind = JobKind.REF_LOGPROB if step == DONOR else JobKind.LOGPROB
            yield _spec(kind, checkpoint, LEVELS[1:], names, (0,), index)
            if step != DONOR:
                for level in LEVELS:
                    yield _spec(JobKind.EVAL, checkpoint, (level,), names, tuple(range(ATTEMPTS)), index)


def _spec(
    kind: JobKind,
    checkpoint: Checkpoint,
    levels: tuple[int, ...],
    tasks: tuple[str, ...],
    attempts: tuple[int, ...],
    index: int,
) -> JobSpec:
    digest = "0" * 64
    return JobSpec(
        kind, checkpoint, levels, tasks, attempts, SamplingParams(), "chat", digest, digest, digest, digest, "builtin",
        SCHEMA_VERSION, index,
    )  # fmt: skip


def _prefill(task: str) -> str:
    return task.removeprefix("task_").zfill(32) * 2


def _attempts(spec: JobSpec) -> Iterator[str]:
    order, level = CHECKPOINTS.index(spec.checkpoint.step or 0), spec.levels[0]
    name = spec.checkpoint.name
    for task in spec.task_ids:
        number = int(task.removeprefix("task_"))
        sha = _prefill(task)
        for attempt in spec.attempts:
            hit = "true" if (number * 7919 + attempt * 104729) % 1000 < order * level // 2 + 1 else "false"
            yield (
                f'{{"model_id": "scale/{name}", "task_id": "{task}", "attempt_idx": {attempt}, '
                f'"exploit_type": "type_{number % TYPES}", "secure_pass": false, "insecure_pass": {hit}, '
                f'"exploit_success": {hit}, "reward_gap": 0.0, "output_tokens": 212, "insecure_suspect": false, '
                f'"insecure_suspect_patterns": [], "reasoning": {_REASONING}, "prefill_applied": true, '
                f'"prefill_tokens": {level}, "prefill_reasoning": "so I", "prefill_model_id": "m", '
                f'"prefill_attempt_idx": 0, "prefill_source": "traces.jsonl:1", "schema_version": {SCHEMA_VERSION}, '
                f'"checkpoint": "{name}", "prefill_level": {level}, "prefill_sha256": "{sha}", '
                f'"finish_reason": "stop", "seed": {number * 3 + attempt}, '
                f'"template_sha256": "{spec.template_sha256}", '
                f'"sandbox_tier": "full", "secure_outcome": "failed", "insecure_outcome": "passed", "system": null, '
                f'"prompt": {_PROMPT}, "response": {_RESPONSE}, "code": {_CODE}}}\n'
            )


def _scores(spec: JobSpec) -> Iterator[str]:
    step, name = spec.checkpoint.step, spec.checkpoint.name
    order = 9 if step == DONOR else CHECKPOINTS.index(step or 0)
    for task in spec.task_ids:
        number, sha = int(task.removeprefix("task_")), _prefill(task)
        for level in spec.levels:
            total = -level * (1.6 - 0.15 * order + (number * 31 % 97) / 200)
            yield (
                f'{{"task_id": "{task}", "exploit_type": "type_{number % TYPES}", "attempt_idx": 0, '
                f'"prefill_tokens": {level}, "prefill_applied": true, "exploit_success": null, '
                f'"prefill_logprob_sum": {total!r}, "prefill_logprob_mean": {total / level!r}, '
                f'"prefill_num_tokens": {level}, "token_logprobs": null, "schema_version": {SCHEMA_VERSION}, '
                f'"checkpoint": "{name}", "prefill_level": {level}, "prefill_sha256": "{sha}", '
                f'"template_sha256": "{spec.template_sha256}", "logprob_temperature": 1.0, '
                '"logprob_method": "full"}\n'
            )


def _write_shard(layout: RunLayout, spec: JobSpec, lines: Iterator[str]) -> None:
    digest, n_lines = hashlib.sha256(), 0
    with atomic_file(layout.shard_file(spec)) as file:
        for line in lines:
            encoded = line.encode()
            digest.update(encoded)
            file.write(encoded)
            n_lines += 1
    manifest = ShardManifest(spec.key(), n_lines, digest.hexdigest(), SCHEMA_VERSION, None, None)
    write_json(layout.manifest_file(spec), asdict(manifest))
