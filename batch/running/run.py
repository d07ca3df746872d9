"""A whole run: from configuration to report, and again from wherever it stopped.

A run directory is a complete description of itself (configuration, inputs, plan), so resuming needs nothing but the
directory, and refuses to go on if the weights behind it have changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from foreshock.analysis.aggregate import AggregateReport, aggregate
from foreshock.batch.config import Cluster, RunConfig
from foreshock.batch.config_file import load_config
from foreshock.batch.executors.factory import make_executor
from foreshock.batch.packing.learned import record_costs
from foreshock.batch.planning.make_plan import RunPlan, make_plan
from foreshock.batch.planning.show_prompt import prompting_record
from foreshock.batch.running.analyse import AnalysisReport, analyse, settings_of
from foreshock.batch.running.edits import freeze_config, require_unedited
from foreshock.batch.running.execute import Execution, OnSnapshot, execute, missing_specs
from foreshock.batch.running.following import next_specs
from foreshock.batch.running.provenance import recorded_status, write_config, write_metadata
from foreshock.batch.site import Site, resolve_site, with_engine
from foreshock.batch.status.document import status_document
from foreshock.batch.status.watched import watch_lock
from foreshock.code_version import short_commit
from foreshock.containers.identity import changed_image
from foreshock.counted import counted
from foreshock.durable import sweep_temporaries
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.records.bundling import bundle_run, shards_at_once
from foreshock.jobs.records.layout import ResultsLayout, RunLayout, run_dir_name
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.ran_records import planned_by
from foreshock.jobs.verify.registry import verifier_facts
from foreshock.slurm.lock import LauncherLock, LockHeldError


@dataclass
class RunResult:
    """What a run came to."""

    layout: RunLayout
    execution: Execution
    aggregate: AggregateReport | None = None
    analysis: AnalysisReport | None = None

    @property
    def complete(self) -> bool:
        """Every planned row is there."""
        return not self.execution.missing and not self.execution.submitted


@dataclass
class RunHooks:
    """What a caller wants to see while a run goes on."""

    display: Callable[[str], AbstractContextManager[OnSnapshot]] = field(
        default=lambda title: nullcontext(lambda snapshot: None)
    )
    say: Callable[[str], None] = field(default=lambda text: None)


def new_run_dir(config: RunConfig) -> Path:
    """A dated directory below the configuration's results that is not there yet."""
    results = ResultsLayout(config.results_dir)
    run_dir = results.run(run_dir_name(config.name, datetime.now(), short_commit())).root
    for i in range(2, 1000):
        if not run_dir.exists():
            break
        run_dir = run_dir.with_name(f"{run_dir_name(f'{config.name}-{i}', datetime.now(), short_commit())}")
    return run_dir


def create_run(config: RunConfig, plan: RunPlan, command: Sequence[str], run_dir: Path | None = None) -> RunLayout:
    """Make the run directory and freeze everything in it. Raises InputError if it is there already."""
    layout = RunLayout(new_run_dir(config) if run_dir is None else run_dir)
    if layout.plan.exists():
        raise InputError("there is a run here already", path=run_dir, fix=f"foreshock resume {run_dir}")
    config = with_engine(config)  # a run goes on with the engine that it began with
    layout.root.mkdir(parents=True, exist_ok=True)
    write_config(layout, config, command)
    freeze_config(layout, config)
    plan.inputs.write(layout)
    write_metadata(layout, config.engine.options.get("api_key_env"), prompting_record(plan.file))
    plan.write(layout)  # last: a directory with a plan is a run that can be resumed
    return layout


def run(
    config: RunConfig, command: Sequence[str], hooks: RunHooks, run_dir: Path | None = None, *, analysed: bool = True
) -> RunResult:
    """Plan, execute, aggregate, analyse and report; without `analysed`, stop at the tables."""
    site = resolve_site(config)
    site.require_seen_image(strict=config.execution.strict)
    plan = make_plan(config, image=site.image)
    layout = create_run(config, plan, command, run_dir)
    hooks.say(f"run directory: {layout.root}")
    if site.image_note is not None:
        hooks.say(site.image_note)
    return _carry_out(layout, config, site, plan.file, hooks, analysed)


def resume(
    run_dir: Path,
    hooks: RunHooks,
    overrides: Callable[[RunConfig], RunConfig] = lambda c: c,
    *,
    analysed: bool = True,
    here: bool = True,
) -> RunResult:
    """Do what is missing of a run, then aggregate, analyse and report again.

    Unless `here`, a Slurm run is aggregated and analysed by a job: not at all if that has been done, and nothing was
    missing.
    """
    layout = RunLayout(run_dir)
    plan = PlanFile.read(layout)
    stored = load_config(layout.config)
    require_unedited(layout, stored)
    config = overrides(stored)
    require_same_models(plan, layout)
    require_same_verifier(plan, layout, config)
    site = resolve_site(config)
    changed = changed_image(planned_by(plan.settings).image, site.image)
    if changed is not None:
        hooks.say(changed)
    if plan.settings.strict != config.execution.strict:
        plan = replace(plan, settings=replace(plan.settings, strict=config.execution.strict))
        plan.write(layout)  # workers read it there
    write_metadata(layout, config.engine.options.get("api_key_env"))
    by_job = site.cluster is Cluster.SLURM and not here
    return _carry_out(layout, config, site, plan, hooks, analysed, status_document(layout) if by_job else None)


@contextmanager
def alone_here(layout: RunLayout, site: Site) -> Iterator[None]:
    """Hold the run against other launchers, whose workers would do the same work twice.

    Slurm's executor has a lock of its own, which its jobs know and which is held while something is submitted. Raises
    ForeshockError while another process that may be alive works on the run.
    """
    if site.cluster is Cluster.SLURM:
        yield
        return
    if watch_lock(layout).held():
        raise LockHeldError(f"a watch works on this run: {layout.root}\n  -> wait for it, or end it, then resume")
    lock = LauncherLock(layout.root / "launcher.lock")
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def require_same_models(plan: PlanFile, layout: RunLayout | None = None) -> None:
    """Raise InputError when a checkpoint's weights are not those that the run was planned with, or gone.

    With `layout`, a checkpoint that is gone is no error if all its rows are there: trainers delete old checkpoints.
    """
    planned = {spec.checkpoint: spec.model_fingerprint for spec in plan.specs}
    gone = {checkpoint for checkpoint in planned if not checkpoint.path.is_dir()}
    of_gone = [spec for spec in plan.specs if spec.checkpoint in gone] if gone else []
    needed = gone if layout is None else {spec.checkpoint for spec in missing_specs(layout, plan, of_gone)}
    for checkpoint, fingerprint in planned.items():
        if checkpoint in gone:
            if checkpoint not in needed:
                continue
            raise InputError("the checkpoint of this run is gone", path=checkpoint.path, fix="restore it, then resume")
        now = model_fingerprint(checkpoint.path)
        if now != fingerprint:
            raise InputError(
                f"the model has changed since the run was planned (fingerprint {now[:12]}, planned "
                f"{fingerprint[:12]}); its rows must not be mixed with the earlier ones",
                path=checkpoint.path,
                fix="restore the checkpoint, or start a new run with `foreshock run`",
            )


def require_same_verifier(plan: PlanFile, layout: RunLayout, config: RunConfig) -> None:
    """Raise InputError when attempts are missing and this foreshock's verifier is not the one they were planned with.

    A verifier whose package is not on this machine is left to the workers, who look as well.
    """
    try:
        now = verifier_facts(config.verifier.name, config.verifier.options).identity
    except InputError:
        return
    others = [spec for spec in plan.specs if spec.verifier and not spec.verifier.startswith(f"{now}:")]
    if others and missing_specs(layout, plan, others):
        raise InputError(
            f"the verifier here is {now}; the run was planned with {others[0].verifier}: its verdicts must not be "
            "mixed with the earlier ones",
            path=layout.root,
            fix="install the version it was planned with, or start a new run with `foreshock run`; "
            "`foreshock rescore` judges what was sampled so far anew",
        )


def finish(
    layout: RunLayout, config: RunConfig, hooks: RunHooks, n_missing: int | None
) -> tuple[AggregateReport, AnalysisReport | None]:
    """Aggregate and, where the configuration wants it, analyse; also what the last job of a Slurm run does.

    `n_missing` shards are not there, which the report says; None where the run goes on.
    """
    hooks.say("aggregating shards")
    aggregated = aggregate(layout)
    plan = PlanFile.read(layout)
    record_costs(layout, plan)
    if plan.bundled:  # while the run goes on, only as many as make a bundle
        bundle_run(layout, plan.specs, hooks.say, shards_at_once(plan.settings.bundle_from) if n_missing is None else 2)
    if not config.analysis.enabled:
        return aggregated, None
    state = None if n_missing is None else "completed"
    if n_missing:
        state = f"incomplete (missing: {counted(n_missing, 'shard')})"
    return aggregated, analyse([layout], settings_of(config), layout.analysis, layout.report, hooks.say, state=state)


def _carry_out(
    layout: RunLayout,
    config: RunConfig,
    site: Site,
    plan: PlanFile,
    hooks: RunHooks,
    analysed: bool,
    before: dict[str, Any] | None = None,
) -> RunResult:
    """See `run` and `resume`; `before` is the status so far of a run that a job finishes."""
    with alone_here(layout, site), recorded_status(layout) as status:
        own = (layout.progress, layout.admission, layout.bundles)
        for folder in (layout.root, *(layout.root / name for name in ("packs", "ran", "slurm")), *own):
            sweep_temporaries(folder)
        with hooks.display(f"sweep {layout.name}") as on_snapshot:
            execution = execute(layout, plan, site, on_snapshot)
        if before is not None and not (execution.submitted or execution.missing):
            return _finished_by_job(RunResult(layout, execution), site, hooks, before, status)
        while not (execution.submitted or execution.missing) and (more := next_specs(layout, plan, config)):
            what, larger = more
            hooks.say(f"{what}: {counted(len(larger.specs) - len(plan.specs), 'shard')} more")
            plan = larger
            with hooks.display(f"{what} {layout.name}") as on_snapshot:
                execution = execute(layout, plan, site, on_snapshot)
        status |= _execution_status(execution)
        result = RunResult(layout, execution)
        if execution.submitted:
            for note in execution.notes:
                hooks.say(note)
            return result
        _finish(result, config, hooks, analysed)
        if result.aggregate is not None:
            status["rows"] = result.aggregate.to_json()
        if execution.missing:
            status["status"] = "incomplete"
            status["exit_reason"] = f"missing: {counted(len(execution.missing), 'shard')}"
        return result


def _finished_by_job(
    result: RunResult, site: Site, hooks: RunHooks, before: dict[str, Any], status: dict[str, Any]
) -> RunResult:
    """Every row is there: leave tables and analyses that are there as they are, else submit the job that makes them."""
    if before.get("status") == "completed":
        plan = PlanFile.read(result.layout)
        if plan.bundled:  # what the last job had no room for, or a worker sealed that outlived its job
            bundle_run(result.layout, plan.specs, hooks.say)
        status |= {key: before[key] for key in ("rows", "n_missing_shards", "failures") if key in before}
        hooks.say("complete and analysed; to analyse it here once more: foreshock resume --analyse")
        return result
    make_executor(site).submit(result.layout, write_pack(result.layout, []), [])
    hooks.say("every row is there; submitted the job that aggregates and analyses")
    result.execution.submitted = True
    status["status"] = "submitted"
    return result


def _finish(result: RunResult, config: RunConfig, hooks: RunHooks, analysed: bool) -> None:
    if not analysed:
        result.aggregate = aggregate(result.layout)
        return
    try:
        result.aggregate, result.analysis = finish(result.layout, config, hooks, len(result.execution.missing))
    except InputError as error:
        if not result.execution.missing:
            raise
        hooks.say(f"not analysed, since shards are missing: {error}")


def _execution_status(execution: Execution) -> dict[str, Any]:
    if execution.submitted:
        return {"status": "submitted"}
    return {"n_missing_shards": len(execution.missing), "failures": execution.failures}


def require_complete(result: RunResult) -> None:
    """Raise ForeshockError that says what is missing and what to do; nothing if all is there."""
    execution = result.execution
    if not execution.missing:
        return
    by_checkpoint = sorted({spec.checkpoint for spec in execution.missing})
    names = ", ".join(checkpoint.name for checkpoint in by_checkpoint[:6]) + (", ..." if len(by_checkpoint) > 6 else "")
    reasons = "\n  ".join(execution.failures) or "no worker gave a reason"
    raise ForeshockError(
        f"missing: {counted(len(execution.missing), 'shard')} (of {names}):\n  {reasons}\n"
        f"  -> fix the cause, then: foreshock resume {result.layout.root}"
    )


def command_line() -> list[str]:
    """The command as the user gave it."""
    return ["foreshock", *sys.argv[1:]]
