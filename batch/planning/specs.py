"""The specs of a plan: tasks cut into shards, each with the digests that make up its identity."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.checkpoints import one_checkpoint
from foreshock.batch.planning.lengths import TOO_LONG
from foreshock.errors import InputError
from foreshock.jobs.admission.remembered import HERE, Remembered
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.prompts.chat_template import TemplateError
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.prompts.problem_prompt import instructions_sha256
from foreshock.jobs.prompts.tokenizer import tokenizer_digest
from foreshock.jobs.records.planfile import SkippedTasks, WorkerSettings
from foreshock.jobs.records.rows import SCHEMA_VERSION
from foreshock.jobs.records.spec import SAMPLED_KINDS, Checkpoint, JobKind, JobSpec, SamplingParams
from foreshock.jobs.scoring.whole_trace import trace_digest

NO_TRACE = "no trace in the prefill source"
CONTROL_TOKEN = "its traces cannot be forced: they hold a marker of the chat template, or end in code"


@dataclass(frozen=True)
class ModelFacts:
    """What identity takes from a checkpoint's files."""

    fingerprint: str
    prompt_format: str
    template_sha256: str
    markers: tuple[str | None, str | None] = (None, None)
    """What opens the reasoning, and what ends it."""
    stops: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _PromptFacts:
    """The part of `ModelFacts` that tokenizer and settings decide."""

    prompt_format: str
    template_sha256: str
    markers: tuple[str | None, str | None]
    stops: tuple[Any, ...]


def model_facts(settings: WorkerSettings, checkpoint: Checkpoint, remembered: Remembered = HERE) -> ModelFacts:
    """Read a checkpoint's identity, as a run with these settings sees it. Raises InputError if it cannot be loaded."""
    key = _prompt_key(settings, checkpoint)
    found = remembered.find("prompts", key)
    if found is None:
        found = remembered.keep(asdict(_derive_prompt_facts(settings, checkpoint)), "prompts", key)
    fingerprint = model_fingerprint(checkpoint.path)
    opening, closing = found["markers"]
    return ModelFacts(
        fingerprint, found["prompt_format"], found["template_sha256"], (opening, closing), tuple(found["stops"])
    )


def _derive_prompt_facts(settings: WorkerSettings, checkpoint: Checkpoint) -> _PromptFacts:
    try:
        prompt_format = run_format(settings, checkpoint)
        prompt_format.render(settings.system, "Say hello.", "")
    except TemplateError as error:
        raise InputError(str(error), path=checkpoint.path, fix="fix its chat_template, or set prompt.format") from None
    template = {
        "format": prompt_format.template_sha256(),
        "instructions": instructions_sha256(settings.instructions),
        "system": settings.system,
    }
    layout = prompt_format.layout
    late = [[list(stop.opening), list(stop.token_ids)] for stop in prompt_format.late_stops]
    return _PromptFacts(
        prompt_format.name,
        content_digest(template),
        (layout.opening, layout.closing),
        (*sorted(prompt_format.stop_token_ids), *late),
    )


_END_FILES = ("generation_config.json", "config.json")


def _prompt_key(settings: WorkerSettings, checkpoint: Checkpoint) -> str:
    """Digest of everything that prompts and stops come from; the checkpoints of a run mostly share all of it."""
    digest = hashlib.sha256(repr((settings.prompt_format, settings.system, settings.instructions)).encode())
    digest.update(repr((settings.template_args, settings.opening, settings.closing, settings.stop_token_ids)).encode())
    folder, models = checkpoint.tokenizer_path, [checkpoint.path]
    if is_adapter(checkpoint.path):
        models.append(base_of(checkpoint.path))
    digest.update(tokenizer_digest(folder).encode())
    for file in [model / name for model in models for name in _END_FILES]:
        if file.is_file():
            digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Part:
    """Tasks of one shard and the digests of what is sent for them."""

    task_ids: tuple[str, ...]
    prefill_sha256: str
    problems_sha256: str


class SpecBuilder:
    """Cuts tasks into shards and makes their specs. `too_long`: (task, level) of prompts that do not fit the model.
    `exploit_tasks`: those whose exploit code is scored."""

    def __init__(
        self,
        config: RunConfig,
        inputs: RunInputs,
        verifier: str,
        n_refused: int,
        settings: WorkerSettings,
        too_long: frozenset[tuple[str, int]],
        exploit_tasks: tuple[str, ...] = (),
    ) -> None:
        self._config = config
        self._settings = settings
        self._too_long = too_long
        self._exploit_tasks = exploit_tasks
        self._n_refused = n_refused
        self._inputs = inputs
        self._tasks = tuple(inputs.problems)
        self._with_trace = tuple(task for task in self._tasks if inputs.traces.get(task))
        self._attempts = tuple(range(config.sampling.attempts * config.sampling.rollouts))
        self._verifier = f"{verifier}:timeout={config.verifier.timeout_s:g}"
        sampling = config.sampling
        self._sampling = SamplingParams(
            sampling.temperature,
            sampling.top_p,
            sampling.max_tokens,
            sampling.attempts,
            sampling.seed,
            sampling.stop,
            sampling.stop_token_ids,
        )
        self._known_sent: dict[int, tuple[str, ...]] = {}
        self._known_parts: dict[tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...], bool], list[_Part]] = {}

    def of_checkpoint(self, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        """Eval specs level by level, then the scoring specs."""
        specs = []
        for level in self._config.prefill.levels:
            specs += self._specs(JobKind.EVAL, checkpoint, facts, (level,), self._sent(level), self._attempts)
        if self._config.logprob.enabled:
            specs += self._scoring(JobKind.LOGPROB, checkpoint, facts)
        if self._config.logprob.exploit_code and self._exploit_tasks:
            specs += self._specs(JobKind.EXPLOIT_LOGPROB, checkpoint, facts, (0,), self._exploit_tasks, (0,))
        if self._config.logprob.honest_reasoning is not None and self._inputs.honest:
            specs += self.honest(checkpoint, facts)
        return specs

    def honest(self, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        """Exploit code after honest reasoning, which must be known."""
        made = self._specs(JobKind.HONEST_LOGPROB, checkpoint, facts, (0,), self._exploit_tasks, (0,))
        before = self._inputs.honest
        return [
            replace(spec, prefill_sha256=content_digest([[before[t].sha256, before[t].reason] for t in spec.task_ids]))
            for spec in made
        ]

    def ground_truth(self, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        """Level 0 again, with attempt indices that the sweep does not use."""
        first = len(self._attempts)
        attempts = tuple(range(first, first + self._config.ground_truth.attempts))
        return self._specs(JobKind.GROUND_TRUTH, checkpoint, facts, (0,), self._sent(0), attempts)

    def extra(self, base: JobSpec, tasks: Sequence[str], n_attempts: int, first_index: int) -> list[JobSpec]:
        """Level 0 once more, with attempt indices that neither the sweep nor the ground truth uses."""
        first = len(self._attempts) + self._config.ground_truth.attempts
        attempts = tuple(range(first, first + n_attempts))
        facts = ModelFacts(base.model_fingerprint, base.prompt_format, base.template_sha256)
        fitting = tuple(task for task in tasks if (task, 0) not in self._too_long)
        made = self._specs(JobKind.EXTRA, base.checkpoint, facts, (0,), fitting, attempts)
        return [replace(spec, shard_index=first_index + i) for i, spec in enumerate(made)]

    def reference(self, config: RunConfig) -> list[JobSpec]:
        """Scoring under the donor."""
        path = config.logprob.reference
        assert path is not None
        try:
            donor = one_checkpoint(path, "reference")
        except InputError as error:
            raise InputError(f"logprob.reference: {error}") from None
        return self._scoring(JobKind.REF_LOGPROB, donor, model_facts(self._settings, donor))

    def skipped(self, checkpoints: Iterable[Checkpoint]) -> list[SkippedTasks]:
        """Tasks without a prefill, for every cell above level 0, and tasks whose prompt is too long, for any."""
        reasons = {
            NO_TRACE: len(self._tasks) - len(self._with_trace) - self._n_refused,
            CONTROL_TOKEN: self._n_refused,
        }
        too_long = Counter(level for _, level in self._too_long)
        found = []
        for checkpoint in checkpoints:
            for level in self._config.prefill.levels:
                counts = (reasons if level > 0 else {}) | {TOO_LONG: too_long[level]}
                found += [SkippedTasks(checkpoint.name, level, n, reason) for reason, n in counts.items() if n]
        return found

    def _sent(self, level: int) -> tuple[str, ...]:
        """Tasks that are sent at a level: those with a prefill for it, whose prompt fits."""
        if level not in self._known_sent:
            tasks = self._tasks if level == 0 else self._with_trace
            self._known_sent[level] = tuple(task for task in tasks if (task, level) not in self._too_long)
        return self._known_sent[level]

    @cached_property
    def _scored(self) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
        """Tasks are scored together that have the same levels: all of them, unless the longest do not fit."""
        groups: dict[tuple[int, ...], list[str]] = {}
        for task in self._with_trace:
            levels = tuple(n for n in self._config.prefill.levels if n > 0 and (task, n) not in self._too_long)
            if levels:
                groups.setdefault(levels, []).append(task)
        return [(levels, tuple(tasks)) for levels, tasks in sorted(groups.items(), reverse=True)]

    def _scoring(self, kind: JobKind, checkpoint: Checkpoint, facts: ModelFacts) -> list[JobSpec]:
        attempts = tuple(range(self._config.sampling.attempts))
        specs: list[JobSpec] = []
        for levels, tasks in self._scored:
            made = self._specs(kind, checkpoint, facts, levels, tasks, attempts)
            first = len(specs)
            specs += [replace(spec, shard_index=first + spec.shard_index) for spec in made] if first else made
        return specs

    def _specs(
        self,
        kind: JobKind,
        checkpoint: Checkpoint,
        facts: ModelFacts,
        levels: tuple[int, ...],
        tasks: tuple[str, ...],
        attempts: tuple[int, ...],
    ) -> list[JobSpec]:
        scoring = kind not in SAMPLED_KINDS
        return [
            JobSpec(
                kind=kind,
                checkpoint=checkpoint,
                levels=levels,
                task_ids=part.task_ids,
                attempts=attempts,
                sampling=self._sampling,
                prompt_format=facts.prompt_format,
                template_sha256=facts.template_sha256,
                model_fingerprint=facts.fingerprint,
                prefill_sha256=part.prefill_sha256,
                problems_sha256=part.problems_sha256,
                verifier="" if scoring else self._verifier,
                schema_version=SCHEMA_VERSION,
                shard_index=number,
            )
            for number, part in enumerate(self._parts(levels, tasks, attempts, scoring and self._settings.whole_trace))
        ]

    def _parts(
        self, levels: tuple[int, ...], tasks: tuple[str, ...], attempts: tuple[int, ...], whole: bool
    ) -> list[_Part]:
        """Shard by shard what no checkpoint changes: computed once for all of them. `whole`: traces count to their
        end."""
        known = (levels, tasks, attempts, whole)
        if known not in self._known_parts:
            size = self._config.execution.shard_tasks
            slices = [tasks[start : start + size] for start in range(0, len(tasks), size)]
            self._known_parts[known] = [
                _Part(own, self._prefill_digest(own, attempts, levels, whole), self._problem_digest(own))
                for own in slices
            ]
        return self._known_parts[known]

    def _prefill_digest(self, tasks: Sequence[str], attempts: Sequence[int], levels: Sequence[int], whole: bool) -> str:
        texts = []
        for task in tasks:
            for attempt in attempts:
                for level in levels:
                    prefill = self._inputs.prefill(task, attempt, level)
                    texts.append(None if prefill is None else prefill.sha256)
                if whole:
                    texts.append(trace_digest(self._inputs, self._settings.instructions, task, attempt, max(levels)))
        return content_digest(texts)

    def _problem_digest(self, tasks: Sequence[str]) -> str:
        return content_digest([asdict(self._inputs.problems[task]) for task in tasks])


def content_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()
