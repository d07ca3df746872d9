"""Scoring: the log-probability of every prefill of a run's traces under one checkpoint.

The unit scored is a distinct trace, not a row. One forward pass of its longest level gives all levels whose token ids
are a prefix of it, and attempts that share the trace share the scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foreshock.jobs.engines.base import Engine
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prefill import prefill_sha256
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.rows import Row, RowIdentity
from foreshock.jobs.records.spec import JobSpec
from foreshock.jobs.scoring.levels import LevelScore, ScoredPrefill, logprob_row, plan_scoring, scoring_temperature
from foreshock.jobs.scoring.whole_trace import WHOLE, WholeTrace, render_whole, trace_fields

_TRACES_PER_PART = 256

TraceKey = tuple[str, str]
"""(task id, sha256 of the longest prefill, or of the whole trace where that is scored): what is scored once."""


def score_spec(
    engine: Engine,
    prompt_format: PromptFormat,
    inputs: RunInputs,
    settings: WorkerSettings,
    spec: JobSpec,
    done: frozenset[RowIdentity],
) -> Iterator[list[Row]]:
    """Rows of a scoring spec that are not `done`, in durable batches: one row per (task, attempt, level)."""
    pending = list(_pending(inputs, spec, done))
    for start in range(0, len(pending), _TRACES_PER_PART):
        yield _score_tasks(engine, prompt_format, inputs, settings, spec, pending[start : start + _TRACES_PER_PART])


def _pending(inputs: RunInputs, spec: JobSpec, done: frozenset[RowIdentity]) -> Iterator[tuple[str, int]]:
    """(task, attempt) pairs with at least one level that is not done."""
    for task_id in spec.task_ids:
        for attempt in spec.attempts:
            for level in spec.levels:
                prefill = inputs.prefill(task_id, attempt, level)
                if prefill is None or prefill.words == 0:
                    continue
                if RowIdentity(spec.checkpoint.name, level, task_id, attempt, prefill.sha256) not in done:
                    yield task_id, attempt
                    break


def _score_tasks(
    engine: Engine,
    prompt_format: PromptFormat,
    inputs: RunInputs,
    settings: WorkerSettings,
    spec: JobSpec,
    pairs: Sequence[tuple[str, int]],
) -> list[Row]:
    rendered: dict[TraceKey, dict[int, RenderedPrompt]] = {}
    wholes: dict[TraceKey, WholeTrace] = {}
    key_of: dict[tuple[str, int], TraceKey] = {}
    for task_id, attempt in pairs:
        longest = inputs.prefill(task_id, attempt, max(spec.levels))
        assert longest is not None  # _pending yields only tasks with a trace
        trace = longest.trace if settings.whole_trace else None
        if trace is not None and trace.answer is not None:
            trace = None
        # traces that begin with the same words are one for the levels, and two as wholes
        what = longest.sha256 if trace is None else prefill_sha256(trace.reasoning)
        key = key_of[task_id, attempt] = (task_id, what)
        if key in rendered:
            continue
        user = build_user_message(inputs.problems[task_id], settings.instructions)
        rendered[key] = {}
        for level in spec.levels:
            prefill = inputs.prefill(task_id, attempt, level)
            if prefill is not None and prefill.words:
                rendered[key][level] = prefill.render(prompt_format, settings.system, user)
        if trace is not None:
            whole = render_whole(prompt_format, settings.system, settings.instructions, trace, inputs.problems[task_id])
            if whole is not None:
                wholes[key], rendered[key][WHOLE] = whole, whole.prompt
    plan = plan_scoring(rendered, engine.covers)
    temperature = scoring_temperature(spec.sampling.temperature)
    scores = plan.collect(engine.score(plan.requests, temperature))
    broken = [key for key in wholes if scores[key][WHOLE].error is not None]
    if broken:  # one that does not fit the model must not take its own levels with it
        alone = {key: {level: one for level, one in rendered[key].items() if level != WHOLE} for key in broken}
        again = plan_scoring(alone, engine.covers)
        scores |= again.collect(engine.score(again.requests, temperature))
    rows = []
    for task_id, attempt in pairs:
        key = key_of[task_id, attempt]
        own = dict(scores[key])
        score_of_whole = own.pop(WHOLE, None)
        for level, score in sorted(own.items()):
            row = _row(inputs, settings, spec, task_id, attempt, level, score, temperature)
            if level == max(own):
                row |= trace_fields(wholes.get(key), score_of_whole)
            rows.append(row)
    return rows


def _row(
    inputs: RunInputs,
    settings: WorkerSettings,
    spec: JobSpec,
    task_id: str,
    attempt: int,
    level: int,
    score: LevelScore,
    temperature: float,
) -> Row:
    prefill = inputs.prefill(task_id, attempt, level)
    assert prefill is not None  # a score exists, so its prefill does
    scored = ScoredPrefill(
        task_id=task_id,
        exploit_type=inputs.problems[task_id].exploit_type,
        attempt_idx=attempt,
        words=prefill.words,
        level=level,
        sha256=prefill.sha256,
        channel=prefill.channel,
        checkpoint=spec.checkpoint.name,
        template_sha256=spec.template_sha256,
        temperature=temperature,
    )
    return logprob_row(scored, score, settings.token_logprobs)
