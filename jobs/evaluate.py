"""Evaluation: sample continuations of prefilled prompts, extract the code, verify it, make rows.

Batches are cut from the whole spec's sorted rows, never from what happens to be left, and an unfinished batch is
redone whole. A resumed run therefore repeats the very batches of an uninterrupted one and, on engines whose numbers
depend on batch composition, reproduces it bit for bit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foreshock.jobs.answers.extract import extract
from foreshock.jobs.answers.text_to_read import text_to_read
from foreshock.jobs.engines.base import Engine, FinishReason, GenerationRequest, GenerationResult
from foreshock.jobs.handover import Handover
from foreshock.jobs.inputs import Prefill, RunInputs
from foreshock.jobs.prompts.base import ParsedResponse, PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.of_run import row_rendering
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.rows import ERROR_KEY, SAMPLE_KEYS, SCHEMA_VERSION, Row, RowIdentity, select_keys
from foreshock.jobs.records.spec import JobSpec, row_seed
from foreshock.jobs.records.verdicts import UNJUDGED
from foreshock.jobs.verify.base import Submission, Verification, Verifier
from foreshock.jobs.verify.problem import Problem

FLUSH_ROWS = 256
"""Rows between two parts when the engine batches continuously."""

FLUSH_S = 10.0
"""Longest that finished rows of such an engine wait for more of them; a kill costs them and those being verified."""

_MOST_WAITING = 4096
"""Rows of such an engine that may wait for verification: it works through its queue meanwhile, and must not run dry
because one batch takes long to verify. Bounded, so that a verifier that is slower cannot fill the memory."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One row to compute."""

    spec: JobSpec
    identity: RowIdentity
    problem: Problem
    prefill: Prefill
    user: str
    request: GenerationRequest


Finished = tuple[WorkItem, GenerationResult]


@dataclass
class Timings:
    """Seconds by phase, for manifests and the cost model."""

    load_s: float = 0.0
    generate_s: float = 0.0
    verify_s: float = 0.0
    score_s: float = 0.0
    output_tokens: int = 0
    rows: int = 0


@dataclass
class Evaluator:
    """Computes evaluation rows with one loaded model. `on_rows` receives every finished batch's rows, in order,
    on the verification thread; `stop` is asked between batches."""

    engine: Engine
    verifier: Verifier
    prompt_format: PromptFormat
    inputs: RunInputs
    settings: WorkerSettings
    stop: Callable[[], bool]
    on_rows: Callable[[Sequence[Row]], None]
    timings: Timings = field(default_factory=Timings)

    def plan(self, spec: JobSpec) -> list[WorkItem]:
        """All rows of a spec, sorted by prompt length then identity, with request ids from 0."""
        level = spec.levels[0]
        drafts = []
        for task_id in spec.task_ids:
            problem = self.inputs.problems[task_id]
            user = build_user_message(problem, self.settings.instructions)
            for attempt in spec.attempts:
                prefill = self.inputs.prefill(task_id, attempt, level)
                if prefill is None:
                    continue
                prompt = prefill.render(self.prompt_format, self.settings.system, user)
                identity = RowIdentity(spec.checkpoint.name, level, task_id, attempt, prefill.sha256)
                drafts.append((len(prompt.token_ids), identity, problem, prefill, user, prompt))
        drafts.sort(key=lambda draft: draft[:2])
        return [
            WorkItem(spec, identity, problem, prefill, user, self._request(spec, i, identity, prompt, prefill))
            for i, (_, identity, problem, prefill, user, prompt) in enumerate(drafts)
        ]

    def _request(
        self, spec: JobSpec, request_id: int, identity: RowIdentity, prompt: RenderedPrompt, prefill: Prefill
    ) -> GenerationRequest:
        sampling, stops, late = spec.sampling, self.prompt_format.stop_token_ids, self.prompt_format.late_stops
        if prefill.reasoning is not None:  # the answer has begun, so what ends it alone ends the continuation
            stops, late = (*stops, *(token for stop in late for token in stop.token_ids)), ()
        return GenerationRequest(
            request_id=request_id,
            prompt_token_ids=prompt.token_ids,
            seed=row_seed(sampling.seed, *identity),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop_token_ids=stops,
            stop=sampling.stop,
            late_stops=late,
            batch_key=spec.key(),
            conversation=prompt.conversation,
        )

    def run(self, items: Sequence[WorkItem], done: frozenset[RowIdentity]) -> bool:
        """Compute the rows that are not `done`, each verified and handed on while the engine makes the next ones;
        returns False if stopped before the end."""
        size = self.engine.batch_rows
        if size is None:
            todo = [item for item in items if item.identity not in done]
            handover = Handover(self._finish, rows=FLUSH_ROWS, seconds=FLUSH_S, most_waiting=_MOST_WAITING)
            self._pass_on(self._stream(todo), handover)
        else:
            batches = [items[i : i + size] for i in range(0, len(items), size)]
            batches = [batch for batch in batches if any(item.identity not in done for item in batch)]
            self._pass_on(self._batches(batches), Handover(self._finish, rows=1, seconds=0.0, most_waiting=size))
        return not self.stop()

    def _pass_on(self, finished: Iterator[list[Finished]], handover: Handover[Finished]) -> None:
        started = time.perf_counter()
        with handover:
            for rows in finished:
                handover.put(rows)
            self.timings.generate_s += time.perf_counter() - started - handover.blocked_s

    def _batches(self, batches: Sequence[Sequence[WorkItem]]) -> Iterator[list[Finished]]:
        for batch in batches:
            if self.stop():
                return
            by_id = {item.request.request_id: item for item in batch}
            results = list(self.engine.generate([item.request for item in batch]))
            yield [(by_id[result.request_id], result) for result in results]

    def _stream(self, items: Sequence[WorkItem]) -> Iterator[list[Finished]]:
        # Items of several specs share this call, so ids are given anew.
        requests = [replace(item.request, request_id=i) for i, item in enumerate(items)]
        for result in self.engine.generate(requests, self.stop):
            yield [(items[result.request_id], result)]

    def _finish(self, batch: Sequence[Finished]) -> None:
        rows: list[Row] = []
        submissions: list[Submission] = []
        for i, (item, result) in enumerate(batch):
            row = self._row(item, result)
            rows.append(row)
            if row.get(ERROR_KEY) is None and row["code_status"] not in UNJUDGED:
                submissions.append(Submission(i, item.problem, row["code"]))
        started = time.perf_counter()
        for i, verification in self.verifier.verify_many(submissions):
            rows[i] |= verdict_fields(verification)
        self.timings.verify_s += time.perf_counter() - started
        self.timings.output_tokens += sum(row["output_tokens"] or 0 for row in rows)
        self.timings.rows += len(rows)
        self.on_rows([select_keys(row, SAMPLE_KEYS) for row in rows])

    def _row(self, item: WorkItem, result: GenerationResult) -> Row:
        spec, prefill = item.spec, item.prefill
        if prefill.reasoning is None:
            parsed = self.prompt_format.parse(result.token_ids, result.text)
            answer = text_to_read(prefill.text, result.text, parsed.reasoning, parsed.answer)
            reasoning = prefill.text + parsed.reasoning
        else:  # the reasoning was given, and all that follows it is answer
            parsed = ParsedResponse("", result.text)
            answer, reasoning = prefill.text + result.text, prefill.reasoning
        found = extract(answer, item.problem.function_name).ended_by(result.finish_reason.value)
        row: Row = {
            "model_id": f"{spec.checkpoint.run}/{spec.checkpoint.name}",
            "task_id": item.problem.id,
            "attempt_idx": item.identity.attempt_idx,
            "exploit_type": item.problem.exploit_type,
            "output_tokens": len(result.token_ids),
            "reasoning": reasoning,
            "prefill_applied": prefill.words > 0,
            "prefill_tokens": prefill.words,
            "prefill_reasoning": prefill.text,
            "prefill_channel": prefill.channel,
            "schema_version": SCHEMA_VERSION,
            "checkpoint": item.identity.checkpoint,
            "prefill_level": item.identity.prefill_level,
            "prefill_sha256": item.identity.prefill_sha256,
            "finish_reason": result.finish_reason.value,
            "reasoning_closed": None if self.prompt_format.layout.closing is None else parsed.answer is not None,
            "seed": item.request.seed,
            "template_sha256": spec.template_sha256,
            "system": self.settings.system,
            "prompt": item.user,
            "rendering": row_rendering(self.settings, self.prompt_format),
            "response": result.text,
            "code": found.code,
            "code_status": found.status.value,
        }
        if prefill.trace is not None:
            row |= {
                "prefill_model_id": prefill.trace.model_id,
                "prefill_attempt_idx": prefill.trace.attempt_idx,
                "prefill_source": prefill.trace.source,
            }
        if result.finish_reason is FinishReason.ERROR:
            row[ERROR_KEY] = f"generation: {result.error or 'no reason given'}"
        return row


_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


def _repeatable(detail: str | None) -> str | None:
    """A detail without memory addresses, in which the same verdict of another process would differ."""
    return None if detail is None else _ADDRESS.sub("at 0x...", detail)


def verdict_fields(verification: Verification) -> dict[str, Any]:
    """The row fields that a verification fills; with `error` if it gave no verdict."""
    fields: dict[str, Any] = {
        "secure_pass": verification.secure.passed,
        "insecure_pass": verification.insecure.passed,
        "exploit_success": verification.exploit_success,
        "reward_gap": verification.reward_gap,
        "insecure_suspect": verification.suspicion.seen,
        "insecure_suspect_patterns": list(verification.suspicion.patterns),
        "unintended_route": verification.unintended_route,
        "sandbox_tier": verification.tier.value,
        "secure_outcome": verification.secure.outcome.value,
        "insecure_outcome": verification.insecure.outcome.value,
        "secure_detail": _repeatable(verification.secure.detail),
        "insecure_detail": _repeatable(verification.insecure.detail),
    }
    if verification.exploit_success is None:
        details = [v.detail for v in (verification.secure, verification.insecure) if v.passed is None]
        fields[ERROR_KEY] = f"verification: {'; '.join(filter(None, details)) or 'infrastructure error'}"
    return fields
