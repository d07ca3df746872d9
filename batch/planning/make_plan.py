"""From a configuration to a plan: every spec of a run, and what is left out and why.

Planning reads everything a run depends on (weights, tokenizers, problems, traces) and freezes it, so that whatever is
wrong is said on the login node in seconds, and a queued run cannot change under its user's hands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from foreshock.batch.config import OWN, EngineConfig, RunConfig
from foreshock.batch.config_inputs import PROBLEM_SUFFIXES
from foreshock.batch.planning.admission import ADMISSION, admit_checkpoints, admit_further, note_donor, remembered_of
from foreshock.batch.planning.checkpoints import discover_checkpoints, find_checkpoints, is_selected, select_steps
from foreshock.batch.planning.exploit_codes import code_notes, plan_exploit_codes
from foreshock.batch.planning.honest import plan_honest
from foreshock.batch.planning.lengths import context_length, planned_too_long, prompt_lengths
from foreshock.batch.planning.problem_checks import EXTRA, CheckedProblems, check_run_problems, write_checks
from foreshock.batch.planning.problems import load_run_problems
from foreshock.batch.planning.specs import CONTROL_TOKEN, SpecBuilder, model_facts
from foreshock.batch.planning.user_texts import control_token_notes
from foreshock.batch.site import engine_choice, with_engine
from foreshock.code_version import code_sha256, running_commit
from foreshock.counted import counted
from foreshock.errors import InputError
from foreshock.image_record import ImageIdentity
from foreshock.jobs.engines.registry import ENGINES, create_engine
from foreshock.jobs.inputs import RunInputs, forced
from foreshock.jobs.prefill import Channel, PrefillTrace, load_prefill_source
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.of_run import rendering, run_format
from foreshock.jobs.prompts.problem_prompt import read_instructions
from foreshock.jobs.prompts.tokenizer import PrefillTextError, load_tokenizer
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import EXPLOIT_CODE, PlanFile, WorkerSettings
from foreshock.jobs.records.spec import Checkpoint, JobSpec
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.registry import verifier_facts


@dataclass(frozen=True)
class RunPlan:
    """A plan and the inputs it was made from."""

    config: RunConfig
    checkpoints: tuple[Checkpoint, ...]
    inputs: RunInputs
    file: PlanFile
    checked: CheckedProblems
    engine_reason: str | None = None
    """Why this engine, where the configuration left it open."""

    @cached_property
    def n_rows(self) -> int:
        """Rows that a complete run holds."""
        return sum(spec.n_rows for spec in self.file.specs)

    def write(self, layout: RunLayout) -> None:
        """Freeze inputs and plan in the run directory."""
        self.inputs.write(layout)
        write_checks(layout, self.checked, self.file.settings.instructions)
        self.file.write(layout)


def make_plan(
    config: RunConfig, checkpoints: Sequence[Checkpoint] | None = None, *, image: ImageIdentity | None = None
) -> RunPlan:
    """Plan a run. Raises InputError for anything that would make it fail later.

    `checkpoints` are those that are there so far, of a run that `grow_plan` will extend; by default all that the
    configuration names must be there. `image` is the one that workers will start in (`Site.image`).
    """
    choice = engine_choice(config)
    config = with_engine(config)
    engine = ENGINES.get(config.engine.name)
    engine.require_options(config.engine.options)
    settings = worker_settings(config, image)
    if engine.checked_when_built:  # the values too
        create_engine(settings.engine, settings.engine_options).close()
    require_inputs(config)
    growing = checkpoints is not None
    checkpoints = discover_checkpoints(config.checkpoints) if checkpoints is None else checkpoints
    verifier = verifier_facts(config.verifier.name, config.verifier.options)
    checked = check_run_problems(config, load_run_problems(config.problems, verifier.exploit_types), verifier.identity)
    problems = checked.problems
    remembered = remembered_of(config)
    facts = {checkpoint: model_facts(settings, checkpoint, remembered) for checkpoint in checkpoints}
    notes = () if growing else find_checkpoints(config.checkpoints).notes
    admission = admit_checkpoints(config, settings, facts, notes, remembered)
    prompt_format = run_format(settings, checkpoints[0])
    if prompt_format.layout.doubt:
        admission["notes"].append(f"reasoning: {prompt_format.layout.doubt}")
    trace_notes: list[str] = []
    traces = _renderable(config, prompt_format, load_traces(config, problems, trace_notes))
    inputs = RunInputs(problems, traces.kept, config.prefill.assignment, config.sampling.attempts)
    context = context_length(settings, checkpoints)
    lengths = prompt_lengths(config, inputs, prompt_format, settings.instructions, context)
    lengths.require_some(checkpoints[0].path)
    tokenizer = load_tokenizer(checkpoints[0].tokenizer_path)
    settings = replace(settings, rendering=rendering(settings, prompt_format, tokenizer))
    admission["notes"] += trace_notes
    admission["notes"] += control_token_notes(inputs, settings.instructions, tokenizer)
    codes = plan_exploit_codes(config, settings, prompt_format, inputs, context)
    honest, honest_notes = plan_honest(config, settings, prompt_format, problems, codes.tasks, context)
    inputs = replace(inputs, honest=honest)
    admission["notes"] += honest_notes
    builder = SpecBuilder(config, inputs, verifier.identity, traces.n_refused, settings, lengths.too_long, codes.tasks)
    admission["notes"] += code_notes(codes)
    specs: list[JobSpec] = []
    for checkpoint in checkpoints:
        specs += builder.of_checkpoint(checkpoint, facts[checkpoint])
    truth = _present_truth(config, checkpoints) if growing else _ground_truth_checkpoints(config, checkpoints)
    for checkpoint in truth:
        specs += builder.ground_truth(checkpoint, facts[checkpoint])
    if config.logprob.enabled and config.logprob.reference is not None:
        reference = builder.reference(config)
        specs += reference
        if reference:
            note_donor(admission, reference[0].checkpoint, remembered)
    file = PlanFile(
        specs=tuple(specs),
        settings=settings,
        skipped=tuple(builder.skipped(checkpoints)),
        n_attempts=config.sampling.attempts,
        n_rollouts=config.sampling.rollouts,
        extra={
            "n_problems": len(problems),
            "n_traces": sum(map(len, inputs.traces.values())),
            "lengths": lengths.to_json(),
            ADMISSION: admission,
            EXTRA: checked.to_json(settings.instructions),
            EXPLOIT_CODE: {"common_tokens": codes.common_tokens, "tasks": list(codes.tasks)},
        },
    )
    return RunPlan(config, tuple(checkpoints), inputs, file, checked, choice.reason)


def require_inputs(config: RunConfig) -> None:
    """Raise InputError that names every file or folder of the configuration that is not there, not the first alone."""
    source, honest = config.problems.source, config.logprob.honest_reasoning
    wanted = {
        "checkpoints.dir": None if config.checkpoints.repo else config.checkpoints.dir,
        "problems.source": Path(source) if Path(source).suffix in PROBLEM_SUFFIXES else None,
        "prefill.source": config.prefill.source if max(config.prefill.levels) > 0 else None,
        "logprob.reference": config.logprob.reference if config.logprob.enabled else None,
        "logprob.honest_reasoning": None if honest in (None, OWN) else Path(honest),
    }
    missing = [f"{key}: {path}" for key, path in wanted.items() if path is not None and not path.exists()]
    if len(missing) > 1:
        raise InputError(
            "these are not there:\n  " + "\n  ".join(missing),
            fix="check the paths: relative ones are relative to the configuration's folder",
        )


def load_traces(
    config: RunConfig, problems: Mapping[str, Problem], notes: list[str] | None = None
) -> dict[str, tuple[PrefillTrace, ...]]:
    """Traces of the run's problems, no more of each than attempts can use; `notes` gains what was left out."""
    prefill = config.prefill
    if max(prefill.levels) == 0:
        return {}
    if prefill.source is None:
        return (
            own_exploits(problems, read_instructions(config.prompt.instructions))
            if prefill.channel is Channel.ANSWER
            else {}
        )
    source = load_prefill_source(
        prefill.source, unconditioned=not prefill.conditioned, channel=prefill.channel, before=prefill.before
    )
    if source.empty and notes is not None:
        n = counted(len(source.empty), "trace")
        notes.append(f"{n} without a word of reasoning left out (first: {source.empty[0]})")
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


def own_exploits(problems: Mapping[str, Problem], instructions: str) -> dict[str, tuple[PrefillTrace, ...]]:
    """Each problem's own exploit as an answer to force, after empty reasoning. Raises InputError if none has one."""
    answers = {task: exploit_answer(problem, instructions) for task, problem in problems.items()}
    traces: dict[str, tuple[PrefillTrace, ...]] = {
        task: (PrefillTrace(task, "", None, None, f"{task}: its own exploit", answer),)
        for task, answer in answers.items()
        if answer is not None
    }
    if not traces:
        raise InputError(
            f"none of the run's {len(problems)} problems brings an exploit of its own to force",
            fix="give prefill.source, a file with `task_id`, `exploit_success` and `answer` or `code`",
        )
    return traces


@dataclass(frozen=True)
class _Renderable:
    """Traces that the prompt format can force, and how many tasks lost all of theirs."""

    kept: dict[str, tuple[PrefillTrace, ...]]
    n_refused: int


def _renderable(
    config: RunConfig, prompt_format: PromptFormat, traces: dict[str, tuple[PrefillTrace, ...]]
) -> _Renderable:
    """Leave out traces that cannot be forced at every level: a control token in one would end the reasoning that it is
    meant to open, and code begun where there is no reasoning section would be half the model's answer."""
    if not traces:
        return _Renderable({}, 0)
    refused = ""

    def usable(trace: PrefillTrace) -> bool:
        nonlocal refused
        try:
            for level in config.prefill.levels:
                forced(trace, level).render(prompt_format, config.prompt.system, "")
        except PrefillTextError as error:
            refused = f"line {trace.source.rpartition(':')[2]}: {error}"
            return False
        return True

    filtered = {task: tuple(trace for trace in own if usable(trace)) for task, own in traces.items()}
    kept = {task: own for task, own in filtered.items() if own}
    if not kept:
        raise InputError(
            f"none of the traces can be forced; the last one: {refused}",
            path=config.prefill.source,
            fix="strip the chat template's tags, and code, from `reasoning`",
        )
    return _Renderable(kept, len(filtered) - len(kept))


def grow_plan(config: RunConfig, plan: PlanFile, inputs: RunInputs, checkpoints: Sequence[Checkpoint]) -> PlanFile:
    """The plan with further checkpoints' specs after its own, which stay as they are; made from the frozen inputs."""
    verifier = verifier_facts(config.verifier.name, config.verifier.options)
    first = plan.specs[0].checkpoint.name
    n_refused = next((s.n_tasks for s in plan.skipped if (s.checkpoint, s.reason) == (first, CONTROL_TOKEN)), 0)
    codes = tuple(plan.extra.get(EXPLOIT_CODE, {}).get("tasks", ()))
    builder = SpecBuilder(config, inputs, verifier.identity, n_refused, plan.settings, planned_too_long(plan), codes)
    specs: list[JobSpec] = []
    remembered = remembered_of(config)
    facts = {checkpoint: model_facts(plan.settings, checkpoint, remembered) for checkpoint in checkpoints}
    extra = plan.extra | {ADMISSION: admit_further(config, plan, facts, remembered)}
    for checkpoint, own in facts.items():
        specs += builder.of_checkpoint(checkpoint, own)
        if _present_truth(config, [checkpoint]):
            specs += builder.ground_truth(checkpoint, own)
    skipped = (*plan.skipped, *builder.skipped(checkpoints))
    return replace(plan, skipped=skipped, extra=extra).with_specs(specs)


def extra_specs(
    config: RunConfig,
    plan: PlanFile,
    inputs: RunInputs,
    base: JobSpec,
    tasks: Sequence[str],
    n_attempts: int,
    first_index: int,
) -> list[JobSpec]:
    """Specs of `n_attempts` further level-0 attempts at `tasks`; `base` is a level-0 spec of the same checkpoint and
    `first_index` the number of such shards that the checkpoint has already."""
    verifier = verifier_facts(config.verifier.name, config.verifier.options)
    builder = SpecBuilder(config, inputs, verifier.identity, 0, plan.settings, planned_too_long(plan))
    return builder.extra(base, tasks, n_attempts, first_index)


def check_sources(config: RunConfig) -> None:
    """Raise InputError for problems or traces that no checkpoint could be planned with."""
    verifier = verifier_facts(config.verifier.name, config.verifier.options)
    load_traces(config, load_run_problems(config.problems, verifier.exploit_types))


def _ground_truth_checkpoints(config: RunConfig, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    if config.ground_truth.attempts == 0:
        return []
    return select_steps(list(checkpoints), config.ground_truth.steps, config.checkpoints.dir, "ground_truth.steps")


def _present_truth(config: RunConfig, checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Those of `checkpoints` that get ground truth; further ones may come later."""
    if config.ground_truth.attempts == 0:
        return []
    steps = config.ground_truth.steps
    return [c for c in checkpoints if is_selected(c, steps)]


def engine_options(engine: EngineConfig) -> dict[str, Any]:
    """The configuration's common keys by each engine's own names, then its further options."""
    spec = ENGINES.get(engine.name)
    options: dict[str, Any] = {"device": engine.device, "dtype": engine.dtype} if spec.on_device else {}
    if spec.batch_option is not None:  # named, so that a smaller retry can halve it
        options[spec.batch_option] = engine.batch_size or spec.default_batch
    if spec.on_device and engine.threads is not None:
        options["threads"] = engine.threads
    return options | engine.options


def worker_settings(config: RunConfig, image: ImageIdentity | None = None) -> WorkerSettings:
    """What workers are told of a configuration. Raises InputError for instructions that cannot be used."""
    engine = with_engine(config).engine
    return WorkerSettings(
        engine=engine.name,
        engine_options=engine_options(engine),
        verifier=config.verifier.name,
        verifier_options={
            "workers": config.verifier.workers,
            "timeout_s": config.verifier.timeout_s,
            "allow_weak_sandbox": config.verifier.allow_weak_sandbox,
        }
        | config.verifier.options,
        prompt_format=config.prompt.format,
        system=config.prompt.system,
        instructions=read_instructions(config.prompt.instructions),
        assignment=config.prefill.assignment.value,
        token_logprobs=config.logprob.token_logprobs,
        whole_trace=config.logprob.whole_trace,
        git_commit=running_commit(),
        image_digest=None if image is None else image.digest,
        image_content=None if image is None else image.content,
        code_sha256=code_sha256(),
        strict=config.execution.strict,
        bundle_from=config.execution.bundle_from,
        reuse_verdicts=config.verifier.reuse_verdicts,
        template_args=config.prompt.template_args,
        opening=config.prompt.opening,
        closing=config.prompt.closing,
        stop_token_ids=config.sampling.stop_token_ids,
    )


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
