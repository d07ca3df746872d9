"""Which honest reasoning stands before exploit code: a file's when a run is planned, the run's own samples' later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foreshock.batch.config import OWN, RunConfig
from foreshock.counted import counted
from foreshock.errors import InputError
from foreshock.jobs.honest import HonestReasoning, choose_honest, read_samples
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.tokenizer import PrefillTextError
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.scoring.exploit_code import render_exploit
from foreshock.jobs.verify.problem import Problem

REFUSED = "that hold a control token or marker"
TOO_LONG = "that do not fit the model's context with the code"
CHOSEN_LATER = (
    "exploit code after honest reasoning: that is chosen from the first checkpoint's unprompted samples, and every "
    "checkpoint is loaded once more to score it"
)
_ANY = "I read the task."


def plan_honest(
    config: RunConfig,
    settings: WorkerSettings,
    prompt_format: PromptFormat,
    problems: Mapping[str, Problem],
    tasks: Sequence[str],
    context: int | None,
) -> tuple[dict[str, HonestReasoning], list[str]]:
    """Honest reasoning of `tasks` from the configuration's file, none where it names none or the run's own samples; and
    what there is to say of it.

    Raises InputError as `of_file` and `obstacles` do.
    """
    given = config.logprob.honest_reasoning
    if given is None:
        return {}, []
    obstacle = obstacles(prompt_format, settings.system, settings.instructions, problems, context)
    if given == OWN:
        return {}, [CHOSEN_LATER]
    chosen = of_file(Path(given), tasks, obstacle)
    return chosen, honest_notes(chosen)


def choose_from_file(
    path: Path | None,
    tasks: Sequence[str],
    prompt_format: PromptFormat,
    system: str | None,
    instructions: str,
    problems: Mapping[str, Problem],
) -> dict[str, HonestReasoning]:
    """The same without a run; empty without a file. Raises InputError as `of_file` and `obstacles` do."""
    if path is None:
        return {}
    return of_file(path, tasks, obstacles(prompt_format, system, instructions, problems, None))


def of_file(path: Path, tasks: Sequence[str], obstacle: Callable[[str, str], str | None]) -> dict[str, HonestReasoning]:
    """Raises InputError for a file that cannot be used, or that has honest reasoning of no task."""
    chosen = choose_honest(read_samples(path), tasks, obstacle)
    if all(one.text is None for one in chosen.values()):
        first = next(iter(chosen.values()))
        raise InputError(
            f"no honest reasoning for any of the {counted(len(tasks), 'task')}; {first.task_id}: {first.reason}",
            path=path,
            fix="give samples of these problems with exploit_success false, such as the first checkpoint's "
            "evals/*_prefill0.samples.jsonl of a run",
        )
    return chosen


def obstacles(
    prompt_format: PromptFormat,
    system: str | None,
    instructions: str,
    problems: Mapping[str, Problem],
    context: int | None,
) -> Callable[[str, str], str | None]:
    """Why a text cannot stand before a task's exploit code, or None. `context`: tokens that fit the model.

    Raises InputError where none can, since the prompts open no reasoning.
    """

    def obstacle(task: str, text: str) -> str | None:
        try:
            rendered = render_exploit(prompt_format, system, problems[task], instructions, text)
        except PrefillTextError:
            return REFUSED
        if rendered is not None and context is not None and len(rendered.token_ids) > context:
            return TOO_LONG
        return None

    try:
        prompt_format.render_answer(system, "", _ANY, "")
    except PrefillTextError as error:
        raise InputError(
            f"honest reasoning cannot stand before code: {error}",
            fix="score the code without reasoning (logprob.exploit_code alone), or name the markers that the template "
            "does not show (prompt.opening, prompt.closing)",
        ) from None
    return obstacle


def honest_notes(chosen: Mapping[str, HonestReasoning]) -> list[str]:
    """Whose reasoning it is, and which tasks have none, and why."""
    if not chosen:
        return []
    found = [one for one in chosen.values() if one.text is not None]
    writers = Counter(one.checkpoint or one.model_id or "a writer that the file does not name" for one in found)
    passed = sum(one.secure_pass is True for one in found)
    lines = [
        f"exploit code after honest reasoning: {len(found)} of {counted(len(chosen), 'task')}, reasoning of "
        f"{', '.join(writers) or 'nobody'}; the answers of {passed} passed the sound verifier"
    ]
    lacking = [one for one in chosen.values() if one.text is None]
    if lacking:
        named = "; ".join(f"{one.task_id}: {one.reason}" for one in lacking[:3])
        lines.append(
            f"without honest reasoning, so not scored after it: {counted(len(lacking), 'task')} ({named}"
            f"{'; ...' if len(lacking) > 3 else ''})"
        )
    return lines
