"""From a configuration to a plan: every spec of a run, and what is left out and why.

Planning reads everything a run depends on (weights, tokenizers, problems, traces) and freezes it, so that whatever is
wrong is said on the login node in seconds, and a queued run cannot change under its user's hands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from foreshock.batch.config import EngineConfig, RunConfig
from foreshock.batch.executors.slurm_scripts import workers_image
from foreshock.batch.planning.checkpoints import discover_checkpoints, require_loadable, select_steps
from foreshock.batch.planning.problems import load_run_problems
from foreshock.batch.running.provenance import git_state
from foreshock.errors import InputError
from foreshock.jobs.engines.factory import create_engine, require_engine
from foreshock.jobs.fingerprint import model_fingerprint
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prefill import PrefillTrace, load_prefill_source
from foreshock.jobs.prompts.chat_template import TemplateError
from foreshock.jobs.prompts.problem_prompt import instructions_sha256
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import PrefillTextError, load_tokenizer
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, SkippedTasks, WorkerSettings
from foreshock.jobs.records.rows import SCHEMA_VERSION
from foreshock.jobs.spec import Checkpoint, JobKind, JobSpec, SamplingParams
from foreshock.jobs.verify.facts import verifier_facts
from foreshock.jobs.verify.problem import Problem

NO_TRACE = "no trace in the prefill source"
DEFAULT_BATCH_SIZE = 64
DEFAULT_SEQUENCES = 256
CONTROL_TOKEN = "its traces hold a control token of the tokenizer"


@dataclass(frozen=True)
class ModelFacts:
    """What identity takes from a checkpoint's files."""

    fingerprint: str
    prompt_format: str
    template_sha256: str


@dataclass(frozen=True)
class RunPlan:
    """A plan and the inputs it was made from."""

    config: RunConfig
    checkpoints: tuple[Checkpoint, ...]
    inputs: RunInputs
    file: PlanFile

    @cached_property
    def n_rows(self) -> int:
        """Rows that a complete run holds."""
        return sum(spec.n_rows for spec in self.file.specs)

    def write(self, layout: RunLayout) -> None:
        """Freeze inputs and plan in the run directory."""
        self.inputs.write(layout)
        self.file.write(layout)


def make_plan(config: RunConfig, checkpoints: Sequence[Checkpoint] | None = None) -> RunPlan:
    """Plan a run. Raises InputError for anything that would make it fail later.

    `checkpoints` are those that are there so far, of a run that `grow_plan` will extend; by default all that the
    configuration names must be there.
    """
    require_engine(config.engine.name, config.engine.options)
    settings = _settings(config)
    if settings.engine == "openai":  # the values too: nothing is loaded or asked for by making this engine
        create_engine(settings.engine, settings.engine_options).close()
    growing = checkpoints is not None
    checkpoints = discover_checkpoints(config.checkpoints) if checkpoints is None else checkpoints
    verifier = verifier_facts(config.verifier.name, config.verifier.package)
    problems = load_run_problems(config.problems, verifier.exploit_types)
    facts = {checkpoint: model_facts(config, checkpoint) for checkpoint in checkpoints}
    traces = _renderable(config, checkpoints[0], _load_traces(config, problems))
    inputs = RunInputs(problems, traces.kept, config.prefill.assignment, config.sampling.attempts)
    builder = _SpecBuilder(config, inputs, verifier.identity, traces.n_refused)
    specs: list[JobSpec] = []
    for checkpoint in checkpoints:
        specs += builder.of_checkpoint(checkpoint, facts[checkpoint])
    truth = _present_truth(config, checkpoints) if growing else _ground_truth_checkpoints(config, checkpoints)
    for checkpoint in truth:
        specs += builder.ground_truth(checkpoint, facts[checkpoint])
    if config.logprob.enabled and config.logprob.reference is not None:
        specs += builder.reference(config)
    file = PlanFile(
        specs=tuple(specs),
        settings=settings,
        skipped=tuple(builder.skipped(checkpoints)),
        n_attempts=config.sampling.attempts,
        n_rollouts=config.sampling.rollouts,
        extra={"n_problems": len(problems), "n_traces": sum(map(len, inputs.traces.values()))},
    )
    return RunPlan(config, tuple(checkpoints), inputs, file)


def _load_traces(config: RunConfig, problems: Mapping[str, Problem]) -> dict[str, tuple[PrefillTrace, ...]]:
    """Traces of the run's problems, no more of each than attempts can use."""
    if config.prefill.source is None or max(config.prefill.levels) == 0:
        return {}
    source = load_prefill_source(config.prefill.source, unconditioned=not config.prefill.conditioned)
    wanted = config.sampling.attempts if config.prefill.assignment == "per_attempt" else 1
    traces = {task: source.traces_of(task)[:wanted] for task in problems if source.traces_of(task)}
    if not traces:
        raise InputError(
            f"none of its {len(source.traces)} tasks is among the run's {len(problems)} problems "
            f"(source has e.g. {next(iter(source.traces))!r}, the problems e.g. {next(iter(problems))!r})",
            path=config.prefill.source,
            fix="use the prefill source that was made from these problems, or set problems.source to match",
        )
    return traces


@dataclass(frozen=True)
class _Renderable:
    """Traces that the prompt format can force, and how many tasks lost all of theirs."""

    kept: dict[str, tuple[PrefillTrace, ...]]
    n_refused: int


def _renderable(config: RunConfig, checkpoint: Checkpoint, traces: dict[str, tuple[PrefillTrace, ...]]) -> _Renderable:
    """Leave out traces that hold a control token: forcing one would end the reasoning it is meant to open."""
    if not traces:
        return _Renderable({}, 0)
    prompt_format = select_format(config.prompt.format, load_tokenizer(checkpoint.path))
    longest = max(config.prefill.levels)

    def usable(trace: PrefillTrace) -> bool:
        try:
            prompt_format.render(config.prompt.system, "", trace.cut(longest).text)
        except PrefillTextError:
            return False
        return True

    filtered = {task: tuple(trace for trace in own if usable(trace)) for task, own in traces.items()}
    kept = {task: own for task, own in filtered.items() if own}
    if not kept:
        raise InputError(
            "every trace holds a control token of this tokenizer, so none can be forced",
            path=config.prefill.source,
            fix="strip the chat template's tags from `reasoning`",
        )
    return _Renderable(kept, len(filtered) - len(kept))


def grow_plan(config: RunConfig, plan: PlanFile, inputs: RunInputs, checkpoints: Sequence[Checkpoint]) -> PlanFile:
    """The plan with further checkpoints' specs after its own, which stay as they are; made from the frozen inputs."""
    verifier = verifier_facts(config.verifier.name, config.verifier.package)
    first = plan.specs[0].checkpoint.name
    n_refused = next((s.n_tasks for s in plan.skipped if (s.checkpoint, s.reason) == (first, CONTROL_TOKEN)), 0)
    builder = _SpecBuilder(config, inputs, verifier.identity, n_refused)
    specs: list[JobSpec] = []
    for checkpoint in checkpoints:
        facts = model_facts(config, checkpoint)
        specs += builder.of_checkpoint(checkpoint, facts)
        if _present_truth(config, [checkpoint]):
            specs += builder.ground_truth(checkpoint, facts)
    skipped = (*plan.skipped, *builder.skipped(checkpoints))
    return replace(plan, skipped=skipped).with_specs(specs)


def extra_specs(
    config: RunConfig, inputs: RunInputs, base: JobSpec, tasks: Sequence[str], n_attempts: int, first_index: int
) -> list[JobSpec]:
    """Specs of `n_attempts` further level-0 attempts at `tasks`; `base` is a level-0 spec of the same checkpoint and
    `first_index` the number of such shards that the checkpoint has already."""
    verifier = verifier_facts(config.verifier.name, config.verifier.package)
    return _SpecBuilder(config, inputs, verifier.identity, 0).extra(base, tasks, n_attempts, first_index)


def check_sources(config: RunConfig) -> None:
    """Raise InputError for problems or traces that no checkpoint could be planned with."""
    verifier = verifier_facts(config.verifier.name, config.verifier.package)
    _load_traces(config, load_run_problems(config.problems, verifier.exploit_types))


def model_facts(config: RunConfig, checkpoint: Checkpoint) -> ModelFacts:
    """Read a checkpoint's identity. Raises InputError if it cannot be loaded."""
    tokenizer = load_tokenizer(checkpoint.path)
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
    return ModelFacts(model_fingerprint(checkpoint.path), prompt_format.name, _digest(template))


def _ground_truth_checkpoints(config: RunConfig, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    if config.ground_truth.attempts == 0:
        return []
    return select_steps(list(checkpoints), config.ground_truth.steps, config.checkpoints.dir, "ground_truth.steps")


def _present_truth(config: RunConfig, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Those of `checkpoints` that get ground truth; further ones may come later."""
    if config.ground_truth.attempts == 0:
        return []
    steps = config.ground_truth.steps
    return [c for c in checkpoints if steps == "all" or ("final" if c.step is None else c.step) in steps]


def engine_options(engine: EngineConfig) -> dict[str, Any]:
    """The configuration's common keys by each engine's own names, then its further options."""
    if engine.name in ("fake", "openai"):  # neither has a device here
        return dict(engine.options)
    options: dict[str, Any] = {"device": engine.device, "dtype": engine.dtype}
    if engine.name == "vllm":
        options["max_num_seqs"] = engine.batch_size or DEFAULT_SEQUENCES  # named, so that a smaller retry can halve it
    else:
        options["batch_size"] = engine.batch_size or DEFAULT_BATCH_SIZE
    if engine.threads is not None:
        options["threads"] = engine.threads
    return options | engine.options


def _settings(config: RunConfig) -> WorkerSettings:
    engine = config.engine
    package = config.verifier.package
    djinn = {"package": str(package)} if package is not None and config.verifier.name == "djinn" else {}
    return WorkerSettings(
        engine=engine.name,
        engine_options=engine_options(engine),
        verifier=config.verifier.name,
        verifier_options={
            "workers": config.verifier.workers,
            "timeout_s": config.verifier.timeout_s,
            "allow_weak_sandbox": config.verifier.allow_weak_sandbox,
        }
        | djinn,
        prompt_format=config.prompt.format,
        system=config.prompt.system,
        instructions=config.prompt.instructions,
        assignment=config.prefill.assignment.value,
        token_logprobs=config.logprob.token_logprobs,
        git_commit=git_state()["commit"],
        image_digest=workers_image(config),
        reuse_verdicts=config.verifier.reuse_verdicts,
    )


class _SpecBuilder:
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
        if not path.is_dir():
            raise InputError("logprob.reference: no such checkpoint directory", path=path)
        try:
            step = Checkpoint.step_of(path.name)
        except ValueError as error:
            raise InputError(f"logprob.reference: {error}", path=path) from None
        donor = Checkpoint("reference", step, path)
        require_loadable(donor)
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
        return _digest(texts)

    def _problem_digest(self, tasks: Sequence[str]) -> str:
        return _digest([asdict(self._inputs.problems[task]) for task in tasks])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()


def same_experiment(planned: PlanFile, stored: PlanFile) -> list[str]:
    """Why a run cannot be resumed with a plan made now; empty if it can."""
    if {spec.key() for spec in planned.specs} == {spec.key() for spec in stored.specs}:
        return []
    reasons = []
    for field in ("model_fingerprint", "template_sha256", "prefill_sha256", "problems_sha256", "sampling", "verifier"):
        new = {getattr(spec, field) for spec in planned.specs}
        old = {getattr(spec, field) for spec in stored.specs}
        if new != old:
            reasons.append(field)
    return reasons or ["checkpoints, levels or problems"]
