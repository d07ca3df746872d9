"""One prompt of a run, exactly as a worker sends it: text, token ids, where the prefill lies, what ends it."""

from __future__ import annotations

from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.checkpoints import discover_checkpoints
from foreshock.batch.planning.lengths import context_length
from foreshock.batch.planning.make_plan import RunPlan, load_traces, worker_settings
from foreshock.batch.planning.problems import load_run_problems
from foreshock.errors import InputError
from foreshock.jobs.admission.admit import require_prompts
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.of_run import rendering, run_format
from foreshock.jobs.prompts.problem_prompt import build_user_message, instructions_text
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.verify.registry import verifier_facts

_SHOWN_LINES = 6
"""Lines of a shortened prompt's beginning, and of its end."""


def show_prompt(
    config: RunConfig, checkpoint: str | None = None, level: int | None = None, task: str | None = None
) -> dict[str, Any]:
    """The prompt of one row as plain data: by default the first task with a trace, at the largest level, of the first
    checkpoint. Raises InputError for a checkpoint, level or task that the run does not have, and for a prefill that
    cannot be forced, and whatever the plan would refuse of the tokenizer."""
    settings = worker_settings(config)
    found = chosen_checkpoint(discover_checkpoints(config.checkpoints), checkpoint)
    require_prompts(found)
    verifier = verifier_facts(config.verifier.name, config.verifier.options)
    problems = load_run_problems(config.problems, verifier.exploit_types)
    traces = load_traces(config, problems)
    inputs = RunInputs(problems, traces, config.prefill.assignment, config.sampling.attempts)
    words = max(config.prefill.levels) if level is None else level
    if words < 0:
        raise InputError(f"--level {words} is negative; valid: 0 or a number of words")
    name = task if task is not None else next(iter(traces if words and traces else problems))
    if name not in problems:
        raise InputError(f"no task {name!r} in this run; it has e.g. {', '.join(list(problems)[:5])}")
    return _rendered(config, settings, inputs, found, name, words)


def prompt_of_plan(plan: RunPlan) -> dict[str, Any] | None:
    """One prompt of a plan, shortened: the first task that is sent at the largest level. None if nothing is sent."""
    specs = [spec for spec in plan.file.specs if spec.task_ids and spec.checkpoint in plan.checkpoints]
    if not specs:
        return None
    spec = max(specs, key=lambda spec: max(spec.levels))
    level = max(spec.levels)
    shown = _rendered(plan.config, plan.file.settings, plan.inputs, spec.checkpoint, spec.task_ids[0], level)
    return {
        "checkpoint": shown["checkpoint"],
        "task": shown["task"],
        "level": shown["level"],
        "tokens": shown["tokens"],
        "prefill_tokens": shown["prefill_tokens"],
        "prompt": _shortened(shown["prompt"]),
        "prefill": _shortened(shown["prefill"]),
    }


def prompting_record(plan: PlanFile) -> dict[str, Any]:
    """What a run's metadata keeps of its prompts."""
    settings, lengths = plan.settings, plan.extra["lengths"]
    return {
        **settings.rendering,
        "system": settings.system,
        "instructions": instructions_text(settings.instructions),
        "context": lengths["context"],
        "longest_prompt": lengths["longest_prompt"],
        "too_long": len(lengths["too_long"]),
        "cut_short": lengths["cut_short"],
    }


def chosen_checkpoint(checkpoints: list[Checkpoint], wanted: str | None) -> Checkpoint:
    """The checkpoint of that name or step; the first by default. Raises InputError that lists those present."""
    if wanted is None:
        return checkpoints[0]
    names = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    found = names.get(wanted) or names.get(f"checkpoint-{wanted}")
    if found is None:
        raise InputError(f"no checkpoint {wanted!r} in this run; valid: {', '.join(names)}")
    return found


def _rendered(
    config: RunConfig, settings: WorkerSettings, inputs: RunInputs, checkpoint: Checkpoint, task: str, level: int
) -> dict[str, Any]:
    prefill = inputs.prefill(task, 0, level)
    if prefill is None:
        raise InputError(
            f"task {task!r} has no trace in the prefill source, so it is asked at level 0 only",
            fix="give --level 0, or another --task",
        )
    prompt_format = run_format(settings, checkpoint)
    user = build_user_message(inputs.problems[task], settings.instructions)
    prompt = prefill.render(prompt_format, settings.system, user)
    start = len(prompt.text) - len(prefill.text)
    return {
        "checkpoint": checkpoint.name,
        "task": task,
        "level": level,
        "words": prefill.words,
        "trace": None if prefill.trace is None else prefill.trace.source,
        "prompt": prompt.text[:start],
        "prefill": prompt.text[start:],
        "tokens": len(prompt.token_ids),
        "prefill_tokens": len(prompt.token_ids) - prompt.prefill_start,
        "token_ids": list(prompt.token_ids),
        "prefill_start": prompt.prefill_start,
        "context": context_length(settings, [checkpoint]),
        "template_sha256": prompt_format.template_sha256(),
        "stop_strings": list(config.sampling.stop),
        **rendering(settings, prompt_format, load_tokenizer(checkpoint.tokenizer_path)),
    }


def _shortened(text: str) -> str:
    lines = text.split("\n")
    if len(lines) <= 2 * _SHOWN_LINES + 1:
        return text
    left_out = len(lines) - 2 * _SHOWN_LINES
    return "\n".join([*lines[:_SHOWN_LINES], f"... {left_out} lines ...", *lines[-_SHOWN_LINES:]])
