"""inspect_ai logs: one `.eval` file per checkpoint and level, for `inspect view` and inspect's analysis tools.

A task is a level, a model a checkpoint, a sample a problem and its epoch an attempt. `exploit` counts what rates count:
a response without code is an attempt without an exploit. Rows without a verdict keep their texts and have no score.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreshock.analysis.exporting.rows import SAMPLED, CellRows, clean, row_files
from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.analysis.tables import checkpoint_label
from foreshock.analysis.tables.load import run_name
from foreshock.errors import InputError
from foreshock.jobs.records.rows import error_of
from foreshock.jobs.records.table_files import table_state
from foreshock.jobs.records.verdicts import counted_exploit

_SCORES = {"exploit": "exploit_success", "secure": "secure_pass", "insecure": "insecure_pass"}
_SHOWN = ("task_id", "attempt_idx", "prompt", "system", "response", "reasoning", "code", *_SCORES.values())


def write_inspect(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """One log per cell. Raises InputError if inspect_ai is not installed."""
    try:
        from inspect_ai.log import write_eval_log
    except ImportError:
        raise InputError(
            "inspect_ai is not installed", fix="pip install 'foreshock[inspect]', or pip install inspect_ai"
        ) from None
    files = row_files(run_dir, SAMPLED)
    written = []
    for done, file in enumerate(files, start=1):
        kind = "" if file.kind.value == "evals" else f"{file.kind.value}_"
        target = folder / f"{kind}checkpoint-{checkpoint_label(file.checkpoint)}_prefill{file.level}.eval"
        write_eval_log(_log(run_name(run_dir), file), str(target), format="eval")
        written.append(target)
        on_progress(done, len(files))
    return written


def _log(run: str, file: CellRows) -> Any:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalMetric, EvalResults, EvalScore, EvalSpec

    checkpoint = checkpoint_label(file.checkpoint)
    rows = list(file.rows())
    epochs = _epochs(rows)
    samples = [_sample(row, epoch) for row, epoch in zip(rows, epochs, strict=True)]
    scores = []
    for name, key in _SCORES.items():
        values = [float(found) for row in rows if (found := _score(row, key)) is not None]
        metrics = {"mean": EvalMetric(name="mean", value=sum(values) / len(values))} if values else {}
        scores.append(
            EvalScore(
                name=name, scorer=name, scored_samples=len(values), unscored_samples=len(rows) - len(values),
                metrics=metrics,
            )
        )  # fmt: skip
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.fromtimestamp(table_state(file.path).changed / 1e9, UTC).isoformat(),
            task=f"foreshock_prefill{file.level}",
            dataset=EvalDataset(name="problems", samples=len({str(row.get("task_id")) for row in rows})),
            model=f"foreshock/{run}/checkpoint-{checkpoint}",
            config=EvalConfig(epochs=max(epochs, default=1)),
            metadata={"run": run, "checkpoint": checkpoint, "prefill_level": file.level, "rows": file.kind.value},
        ),
        results=EvalResults(total_samples=len(rows), completed_samples=len(rows), scores=scores),
        samples=samples,
    )


def _epochs(rows: list[dict[str, Any]]) -> list[int]:
    """The attempt, from 1; where rollouts repeat an attempt, how many rows of the task came before."""
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        task = str(row.get("task_id"))
        seen[task] = seen.get(task, 0) + 1
        found.append(seen[task])
    return found


def _sample(row: dict[str, Any], epoch: int) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    prompt, system = row.get("prompt"), row.get("system")
    answer = clean(f"{row.get('prefill_reasoning') or ''}{row.get('response') or row.get('reasoning') or ''}")
    output = ModelOutput.from_content(
        model=str(row.get("model_id") or "foreshock"),
        content=answer,
        stop_reason="max_tokens" if row.get("finish_reason") == "length" else "stop",
        error=None if (error := error_of(row)) is None else clean(error),
    )
    messages: list[Any] = [ChatMessageSystem(content=clean(system))] if isinstance(system, str) else []
    messages.append(ChatMessageUser(content=clean(prompt) if isinstance(prompt, str) else ""))
    code = row.get("code")
    scores = {
        name: Score(value=found, answer=clean(code) if isinstance(code, str) else None, explanation=_why(row, name))
        for name, key in _SCORES.items()
        if (found := _score(row, key)) is not None
    }
    metadata = {key: _plain(value) for key, value in row.items() if key not in _SHOWN and value is not None}
    return EvalSample(
        id=clean(str(row.get("task_id"))),
        epoch=epoch,
        input=messages,
        target=str(row.get("exploit_type") or ""),
        messages=[*messages, output.choices[0].message],
        output=output,
        scores=scores,
        metadata=metadata | {"attempt_idx": row.get("attempt_idx")},
    )


def _score(row: dict[str, Any], key: str) -> bool | None:
    if key == "exploit_success":
        return counted_exploit(row)
    return row[key] if isinstance(row.get(key), bool) and error_of(row) is None else None


def _why(row: dict[str, Any], name: str) -> str | None:
    detail = row.get(f"{name}_detail") or row.get(f"{name}_outcome")
    return clean(detail) if isinstance(detail, str) else None


def _plain(value: Any) -> Any:
    """Data with texts that UTF-8 can hold, however deep they lie."""
    if isinstance(value, dict):
        return {clean(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return clean(value) if isinstance(value, str) else value


SPEC = ExporterSpec("inspect", "inspect_ai logs (.eval), one per checkpoint and level, for inspect view", write_inspect)
