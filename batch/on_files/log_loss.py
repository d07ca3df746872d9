"""Log loss of given answers under checkpoints: is a model that learns to exploit still as good at other tasks?

Answers of control tasks are scored as the prompt format writes them, after no reasoning or after the first words of
some: per token, in nats, so that answers of different lengths compare. No sampling and no verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foreshock.batch.on_files.score import ScoreOptions
from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine, ScoreRequest
from foreshock.jobs.prefill import cut_prefill
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.prompts.tokenizer import PrefillTextError
from foreshock.jobs.records.jsonl import read_jsonl, write_jsonl
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.scoring.levels import scoring_temperature


@dataclass(frozen=True, slots=True)
class ControlTask:
    """A task with the answer that is scored. `kind`: a name to group by."""

    task_id: str
    kind: str
    system: str | None
    prompt: str
    reasoning: str
    answer: str


@dataclass
class LossReport:
    """`summary`: checkpoint, prefill_level, kind ("all" for all), n, log_loss with 95% limits, n_failed."""

    summary: pd.DataFrame
    files: list[Path] = field(default_factory=list)
    n_refused: int = 0


def read_control_tasks(path: Path, levels: Sequence[int]) -> list[ControlTask]:
    """JSONL with task_id (or id), prompt, completion, and perhaps system, reasoning, task_type.

    Raises:
        InputError: a row without one of these, of the wrong type, or without the reasoning that a level needs.
    """
    tasks = []
    for number, row in read_jsonl(path):
        name = row.get("task_id", row.get("id", f"row-{number}"))
        texts = {key: row.get(key) for key in ("prompt", "completion")}
        optional = {key: row.get(key) for key in ("system", "reasoning", "task_type")}
        wrong = [key for key, text in texts.items() if not isinstance(text, str) or not text.strip()]
        wrong += [key for key, text in optional.items() if not isinstance(text, str | None)]
        if wrong:
            raise InputError(f"{', '.join(wrong)} is missing or no text", path=path, line=number,
                             fix="each row needs prompt and completion")  # fmt: skip
        if max(levels) > 0 and not optional["reasoning"]:
            raise InputError("row has no reasoning to cut", path=path, line=number, fix="score it at --levels 0")
        kind, reasoning = optional["task_type"] or "control", optional["reasoning"] or ""
        tasks.append(
            ControlTask(
                str(name), kind, optional["system"], texts["prompt"] or "", reasoning, texts["completion"] or ""
            )
        )
    if not tasks:
        raise InputError("holds no task", path=path)
    return tasks


def measure_log_loss(
    checkpoints: Sequence[Checkpoint],
    tasks: Sequence[ControlTask],
    levels: Sequence[int],
    output: Path,
    options: ScoreOptions,
    say: Callable[[str], None] = lambda text: None,
) -> LossReport:
    """Write checkpoint-N.jsonl (one row per task and level) and log_loss.csv into `output`."""
    for checkpoint in checkpoints:
        options.require_admitted(checkpoint)
    temperature = scoring_temperature(options.temperature)
    rows: list[dict[str, Any]] = []
    report = LossReport(pd.DataFrame())
    with options.engine() as engine:
        for checkpoint in checkpoints:
            say(checkpoint.name)
            engine.load(checkpoint)
            own, refused = _score(engine, checkpoint, tasks, levels, temperature, options.prompt_format)
            report.n_refused = refused
            path = output / f"{checkpoint.name}.jsonl"
            write_jsonl(path, own)
            report.files.append(path)
            rows += own
    if not rows:
        raise InputError("no answer can be scored: each holds a marker or a control token of the prompt format")
    report.summary = summarise(pd.DataFrame(rows))
    return report


def _score(
    engine: Engine,
    checkpoint: Checkpoint,
    tasks: Sequence[ControlTask],
    levels: Sequence[int],
    temperature: float,
    format_name: str,
) -> tuple[list[dict[str, Any]], int]:
    formats: dict[str | None, PromptFormat] = {}
    wanted: list[tuple[ControlTask, int, RenderedPrompt]] = []
    refused = 0
    for task in tasks:
        if task.system not in formats:
            formats[task.system] = checkpoint_format(format_name, checkpoint, system=task.system)
        for level in levels:
            forced = cut_prefill(task.reasoning, level).text
            try:
                prompt = formats[task.system].render_answer(task.system, task.prompt, forced, task.answer)
            except PrefillTextError:
                refused += 1
                continue
            wanted.append((task, level, prompt))
    requests = [ScoreRequest(i, p.token_ids, p.prefill_start, p.conversation) for i, (_, _, p) in enumerate(wanted)]
    results = {result.request_id: result for result in engine.score(requests, temperature)}
    rows = []
    for i, (task, level, _) in enumerate(wanted):
        found = results[i]
        row: dict[str, Any] = {"task_id": task.task_id, "task_type": task.kind, "checkpoint": checkpoint.name,
                               "prefill_level": level}  # fmt: skip
        if found.error is not None:
            rows.append(row | {"log_loss": None, "error": f"scoring: {found.error}"})
            continue
        total = sum(found.logprobs)
        rows.append(row | {"logprob_sum": total, "num_tokens": len(found.logprobs),
                           "log_loss": -total / len(found.logprobs), "logprob_temperature": temperature})  # fmt: skip
    return rows, refused


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean log loss over tasks with its 95% limits (normal, over tasks), for all tasks and for each kind.

    Limits are missing where one task is left, the mean too where none is.
    """
    parts = [rows.assign(task_type="all"), *([rows] if rows["task_type"].nunique() > 1 else [])]
    out = []
    for part in parts:
        for (checkpoint, level, kind), group in part.groupby(["checkpoint", "prefill_level", "task_type"], sort=False):
            loss = group["log_loss"].astype(float).dropna().to_numpy(float)
            half = 1.96 * loss.std(ddof=1) / np.sqrt(len(loss)) if len(loss) > 1 else np.nan
            mean = loss.mean() if len(loss) else np.nan
            out.append((checkpoint, level, kind, len(loss), mean, mean - half, mean + half, len(group) - len(loss)))
    names = ["checkpoint", "prefill_level", "task_type", "n", "log_loss", "lower95", "upper95", "n_failed"]
    return pd.DataFrame(out, columns=names)
