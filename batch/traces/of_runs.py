"""The samples of runs, and what they must not hold, for `foreshock traces`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from foreshock.batch.traces.collect import SOURCE, Collected, LeftOut, Wanted, collect
from foreshock.errors import InputError
from foreshock.jobs.prompts.markers import control_tokens
from foreshock.jobs.prompts.problem_prompt import PRESETS
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.checkpoint_names import checkpoint_order
from foreshock.jobs.records.jsonl import read_json, read_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.sampled_rows import without_sample
from foreshock.jobs.records.table_files import has_table, is_archived

Judge = Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Source:
    """One file of samples to read: a run's level 0 at a checkpoint, or a file of one's own. controls_known: whether a
    tokenizer says which texts no trace may hold. of_run: whether a run's verifiers judged it. without_text: attempts of
    the run that its samples file lacks."""

    path: Path
    what: str
    controls_known: bool = True
    of_run: bool = True
    without_text: int = 0


def source_of(given: Path, checkpoint: str | None) -> Source:
    """A run directory's level-0 samples (of its last checkpoint, or the one named), or a samples file as it is.

    Raises InputError for a run without level-0 samples and for a checkpoint that it lacks.
    """
    if (given.exists() and not given.is_dir()) or is_archived(given):
        return Source(given, given.name, of_run=False)
    if not given.is_dir():
        raise InputError("no such run directory or file of samples", path=given, fix="`foreshock ls` lists runs")
    layout = RunLayout(given)
    names = sorted({f.cell.checkpoint for f in layout.eval_files() if f.cell.level == 0}, key=checkpoint_order)
    there = [name for name in names if has_table(layout.samples_file(name, 0))]
    if not there:
        raise InputError(
            "no samples at level 0 here, and only unprompted samples are their writer's own",
            path=given,
            fix="sample them: a run with prefill.levels: [0] over the donor (or the prompted model), then this again",
        )
    wanted = there[-1] if checkpoint is None else checkpoint if checkpoint in there else f"checkpoint-{checkpoint}"
    if wanted not in there:
        raise InputError(f"no level-0 samples of {checkpoint!r}; valid: {', '.join(there)}", path=given)
    lacking = without_sample(layout.eval_file(wanted, 0))
    return Source(layout.samples_file(wanted, 0), f"{layout.name}, {wanted}", without_text=lacking)


def collect_runs(
    runs: Sequence[Path],
    checkpoint: str | None,
    tokenizer: Path | None,
    *,
    conditioned: bool = True,
    per_task: int | None = None,
    judge: Judge | None = None,
) -> tuple[Collected, list[Source]]:
    """Traces of several runs or sample files. `tokenizer`: of the model that they are to be forced on; by default each
    run's own. `judge`: gives the samples of files their verdicts, in place of what the files say. Raises InputError as
    `source_of`, and when no trace is left."""
    sources = [source_of(run, checkpoint) for run in runs]
    controls: frozenset[str] = frozenset()
    instructions = []
    for n, run in enumerate(runs):
        own = tokenizer
        if run.is_dir():
            own = tokenizer or _own_tokenizer(RunLayout(run))
            instructions.append(_instructions(RunLayout(run)))
        if own is None:
            sources[n] = replace(sources[n], controls_known=False)
        controls |= _controls(own)
    wanted = Wanted(conditioned, per_task, controls, "\n".join(instructions))
    found = collect(_samples(sources, conditioned, judge), wanted)
    if not found.traces:
        why = "; ".join(f"{n} {reason}" for reason, n in found.left_out.items()) or "there are none"
        raise InputError(
            f"no sample can serve as a trace: {why}",
            path=sources[0].path,
            fix=_what_helps(found, conditioned),
        )
    return found, sources


def require_other_file(output: Path, runs: Sequence[Path]) -> None:
    """Raise InputError where writing the source would destroy what it is made from."""
    if any(run.is_file() and output.exists() and run.samefile(output) for run in runs):
        raise InputError("is one of the files to read, and would be replaced", path=output, fix="give another --output")
    if output.is_dir():
        raise InputError("is a directory; the source is a file", path=output, fix="give --output FILE.jsonl")


def _what_helps(found: Collected, conditioned: bool) -> str:
    if found.left_out.get(LeftOut.UNFINISHED, 0) * 2 > sum(found.left_out.values()):
        return "sample with a higher sampling.max_tokens (--max-tokens)"
    if found.left_out.get(LeftOut.NO_REASONING, 0) * 2 > sum(found.left_out.values()):
        return "use a model that reasons, or force answers in place of reasoning: prefill.channel: answer"
    if not conditioned:
        return "sample more"
    return "sample more, use a later checkpoint, or --unconditioned to keep traces that did not exploit"


def _samples(sources: Sequence[Source], conditioned: bool, judge: Judge | None) -> Iterator[dict[str, Any]]:
    for number, source in enumerate(sources):
        judged = judge is not None and not source.of_run
        needed = ("task_id", "reasoning", *(("exploit_success",) if conditioned and not judged else ()))
        rows = _checked(source.path, needed, judged)
        for row in judge(rows) if judge is not None and judged else rows:
            yield row | {SOURCE: number}


def _checked(path: Path, needed: Sequence[str], judged: bool) -> Iterator[dict[str, Any]]:
    for number, row in read_jsonl(path):
        if missing := [key for key in needed if key not in row]:
            raise InputError(
                f"row lacks {', '.join(missing)}; needed: {', '.join(needed)}; found: {', '.join(row)}",
                path=path,
                line=number,
                fix="rename the fields of another tool (docs/traces.md)"
                + ("; --problems FILE judges answers without a verdict" if missing == ["exploit_success"] else ""),
            )
        yield checked_sample({**row, "exploit_success": None} if judged else row, path, number)


def checked_sample(row: dict[str, Any], path: Path, line: int) -> dict[str, Any]:
    """A row whose fields are of the types that traces are chosen by; 0 and 1 become false and true, 2.0 an attempt.

    Raises InputError for any other: a text `"false"` is not false, and would be counted as an exploit.
    """
    for key in ("exploit_success", "reasoning_closed", "prefill_applied"):
        value = row.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1):
            row[key] = bool(value)
        elif not isinstance(value, bool | None):
            raise InputError(f"{key} is {value!r}; valid: true, false, null", path=path, line=line)
    for key in ("attempt_idx", "prefill_tokens", "prefill_level"):
        value = row.get(key)
        if isinstance(value, float) and value.is_integer():
            row[key] = value = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InputError(f"{key} is {value!r}; valid: 0, 1, 2, ... or null", path=path, line=line)
    for key in ("reasoning", "code", "exploit_type", "prefill_reasoning"):
        if not isinstance(row.get(key), str | None):
            raise InputError(f"{key} is {_short(row[key])}; valid: text, or null", path=path, line=line)
    if not isinstance(row["task_id"], str) or not row["task_id"]:
        raise InputError(f"task_id is {row['task_id']!r}; valid: text, or a whole number", path=path, line=line)
    return row


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _controls(tokenizer: Path | None) -> frozenset[str]:
    return frozenset() if tokenizer is None else control_tokens(load_tokenizer(tokenizer))


def _own_tokenizer(layout: RunLayout) -> Path | None:
    """Where the run's checkpoints have their tokenizer, if that is still there."""
    if not layout.plan.is_file():
        return None
    from foreshock.jobs.records.planfile import PlanFile

    specs = PlanFile.read(layout).specs
    path = specs[0].checkpoint.tokenizer_path if specs else None
    return path if path is not None and path.is_dir() else None


def _instructions(layout: RunLayout) -> str:
    """The run's own instructions and system message; the presets' neutral words may be quoted."""
    if layout.plan.is_file():
        settings = read_json(layout.plan).get("settings", {})
        text = str(settings.get("instructions") or "")
        return "\n".join(part for part in ("" if text in PRESETS else text, str(settings.get("system") or "")) if part)
    if layout.config.is_file():
        config = yaml.safe_load(layout.config.read_text(encoding="utf-8"))
        prompt = (config.get("config") or {}).get("prompt") if isinstance(config, dict) else None
        return str((prompt or {}).get("system") or "")
    return ""
