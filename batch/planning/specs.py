"""The specs of a plan: tasks cut into shards, each with the digests that make up its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.checkpoints import one_checkpoint
from foreshock.errors import InputError
from foreshock.jobs.fingerprint import model_fingerprint
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.chat_template import TemplateError
from foreshock.jobs.prompts.problem_prompt import instructions_sha256
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.planfile import SkippedTasks
from foreshock.jobs.records.rows import SCHEMA_VERSION
from foreshock.jobs.spec import Checkpoint, JobKind, JobSpec, SamplingParams

NO_TRACE = "no trace in the prefill source"
CONTROL_TOKEN = "its traces hold a control token of the tokenizer"


@dataclass(frozen=True)
class ModelFacts:
    """What identity takes from a checkpoint's files."""

    fingerprint: str
    prompt_format: str
    template_sha256: str
    stop_token_ids: tuple[int, ...] = ()


def model_facts(config: RunConfig, checkpoint: Checkpoint) -> ModelFacts:
    """Read a checkpoint's identity. Raises InputError if it cannot be loaded."""
    tokenizer = load_tokenizer(checkpoint.tokenizer_path)
    try:
        prompt_format = select_format(config.prompt.format, tokenizer)
        prompt_format.render(config.prompt.system, "Say hello.", "")
    except TemplateError as error:
        raise InputError(str(error), path=checkpoint.path, fix="fix its chat_template, or set prompt.format") from None
    template = {
        "format": prompt_format.template_sha256(),
        "instructions": instructions_sha256(config.prompt.instructions),
        "system": config.prompt.system,
    }
    fingerprint, stops = model_fingerprint(checkpoint.path), prompt_format.stop_token_ids
    return ModelFacts(fingerprint, prompt_format.name, content_digest(template), stops)


class SpecBuilder:
    """Cuts tasks into shards and makes their specs."""

    def __init__(self, config: RunConfig, inputs: RunInputs, verifier: str, n_refused: int) -> None:
        self._config = config
        self._n_refused = n_refused
        self._inputs = inputs
        self._tasks = tuple(inputs.problems)
        self._with_trace = tuple(task for task in self._tasks if inputs.traces.get(task))
        self._attempts = tuple(range(config.sampling.attempts * config.sampling.rollouts))
        self._verifier = f"{verifier}:timeout={config.verifier.timeout_s:g}"

    def of_checkpoint(self, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        """Eval specs level by level, then the scoring specs."""
        specs = []
        for level in self._config.prefill.levels:
            tasks = self._tasks if level == 0 else self._with_trace
            specs += self._specs(JobKind.EVAL, checkpoint, facts, (level,), tasks, self._attempts)
        if self._config.logprob.enabled:
            specs += self._scoring(JobKind.LOGPROB, checkpoint, facts)
        return specs

    def ground_truth(self, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        """Level 0 again, with attempt indices that the sweep does not use."""
        first = len(self._attempts)
        attempts = tuple(range(first, first + self._config.ground_truth.attempts))
        return self._specs(JobKind.GROUND_TRUTH, checkpoint, facts, (0,), self._tasks, attempts)

    def extra(self, base: JobSpec, tasks: Sequence[str], n_attempts: int, first_index: int) -> list[JobSpec]:
        """Level 0 once more, with attempt indices that neither the sweep nor the ground truth uses."""
        first = len(self._attempts) + self._config.ground_truth.attempts
        attempts = tuple(range(first, first + n_attempts))
        facts = ModelFacts(base.model_fingerprint, base.prompt_format, base.template_sha256)
        made = self._specs(JobKind.EXTRA, base.checkpoint, facts, (0,), tasks, attempts)
        return [replace(spec, shard_index=first_index + i) for i, spec in enumerate(made)]

    def reference(self, config: RunConfig) -> list[JobSpec]:
        """Scoring under the donor."""
        path = config.logprob.reference
        assert path is not None
        try:
            donor = one_checkpoint(path, "reference")
        except InputError as error:
            raise InputError(f"logprob.reference: {error}") from None
        return self._scoring(JobKind.REF_LOGPROB, donor, model_facts(config, donor))

    def skipped(self, checkpoints: Iterable[Checkpoint]) -> list[SkippedTasks]:
        """Tasks without a prefill, for every cell above level 0."""
        reasons = {
            NO_TRACE: len(self._tasks) - len(self._with_trace) - self._n_refused,
            CONTROL_TOKEN: self._n_refused,
        }
        levels = [level for level in self._config.prefill.levels if level > 0]
        return [
            SkippedTasks(c.name, level, n, reason)
            for c in checkpoints
            for level in levels
            for reason, n in reasons.items()
            if n
        ]

    def _scoring(self, kind: JobKind, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        levels = tuple(level for level in self._config.prefill.levels if level > 0)
        attempts = tuple(range(self._config.sampling.attempts))
        return self._specs(kind, checkpoint, facts, levels, self._with_trace, attempts) if levels else []

    def _specs(
        self,
        kind: JobKind,
        checkpoint: Checkpoint,
        facts: ModelFacts,
        levels: tuple[int, ...],
        tasks: Sequence[str],
        attempts: tuple[int, ...],
    ) -> list[JobSpec]:
        sampling, size = self._config.sampling, self._config.execution.shard_tasks
        scoring = kind in (JobKind.LOGPROB, JobKind.REF_LOGPROB)
        return [
            JobSpec(
                kind=kind,
                checkpoint=checkpoint,
                levels=levels,
                task_ids=tuple(tasks[start : start + size]),
                attempts=attempts,
                sampling=SamplingParams(
                    sampling.temperature,
                    sampling.top_p,
                    sampling.max_tokens,
                    sampling.attempts,
                    sampling.seed,
                    sampling.stop,
                ),
                prompt_format=facts.prompt_format,
                template_sha256=facts.template_sha256,
                model_fingerprint=facts.fingerprint,
                prefill_sha256=self._prefill_digest(tasks[start : start + size], attempts, levels),
                problems_sha256=self._problem_digest(tasks[start : start + size]),
                verifier="" if scoring else self._verifier,
                schema_version=SCHEMA_VERSION,
                shard_index=start // size,
            )
            for start in range(0, len(tasks), size)
        ]

    def _prefill_digest(self, tasks: Sequence[str], attempts: Sequence[int], levels: Sequence[int]) -> str:
        texts = []
        for task in tasks:
            for attempt in attempts:
                for level in levels:
                    prefill = self._inputs.prefill(task, attempt, level)
                    texts.append(None if prefill is None else prefill.sha256)
        return content_digest(texts)

    def _problem_digest(self, tasks: Sequence[str]) -> str:
        return content_digest([asdict(self._inputs.problems[task]) for task in tasks])


def content_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
