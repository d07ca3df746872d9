"""What each command does in its job, told by the arguments that its folder keeps."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.batch.executors.command_job import TASK, CommandJob
from foreshock.errors import ForeshockError, StopRequestedError
from foreshock.jobs.as_planned import require_gpus
from foreshock.jobs.inputs import SHARED, RunInputs
from foreshock.jobs.progress import ProgressReporter
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.worker import EXIT_COMPLETE, EXIT_FAILED, EXIT_STOPPED

DONOR, OWN_REASONING, SPLIT = "donor", "own-reasoning", "split"


@dataclass(frozen=True)
class JobHooks:
    """stop: asked between batches. progress: counts what is on disk, by which requeues are limited."""

    stop: Callable[[], bool]
    progress: ProgressReporter

    def say(self, text: str) -> None:
        """A line in the job's log, and what the progress file says of the moment."""
        print(text, flush=True)
        self.progress.now.doing = text.partition("\n")[0]
        self.progress.say()

    def found(self, n: int) -> None:
        """Work that earlier attempts left."""
        self.progress.now.rows_resumed += n
        self.progress.now.rows_done += n
        self.progress.say(force=True)

    def added(self, n: int) -> None:
        """Work that this attempt added."""
        self.progress.now.rows_done += n
        self.progress.say(force=True)


def run_command(folder: Path, stop: Callable[[], bool], pack: int, gpus: int = 0) -> int:
    """Do the command of a job's folder; returns an exit code as workers' are: 0, 1, or 75 to be started again."""
    progress = ProgressReporter(RunLayout(folder).progress_file(TASK), pack, TASK)
    progress.now.state = "running"
    progress.say(force=True)
    state, code, message = "completed", EXIT_COMPLETE, ""
    try:
        require_gpus(gpus)
        job = CommandJob.read(folder)
        WORK[job.command](job.arguments, JobHooks(stop, progress))
    except StopRequestedError as error:
        state, code, message = "stopped", EXIT_STOPPED, str(error)
    except ForeshockError as error:
        state, code, message = "failed", EXIT_FAILED, f"error: {error}"
    except Exception:  # noqa: BLE001 - `status` tells it, and the log has all of it
        state, code, message = "failed", EXIT_FAILED, traceback.format_exc()
    progress.now.state, progress.now.message = state, message
    progress.say(force=True)
    print(message or "done", flush=True)
    return code


def _donor(arguments: Mapping[str, Any], hooks: JobHooks) -> None:
    from foreshock.batch.config_file import load_config
    from foreshock.batch.donor.loop import LoopHooks, told
    from foreshock.batch.donor.make import make_donor
    from foreshock.batch.donor.plan import plan_donor
    from foreshock.batch.donor.settings import TrainingSettings

    plan = plan_donor(
        load_config(Path(arguments["config"])),
        TrainingSettings.from_json(arguments["settings"]),
        arguments["checkpoint"],
        Path(arguments["output"]),
        sample_tokens=arguments["sample_tokens"],
        problems=RunInputs.read(RunLayout(Path(arguments["inputs"])), SHARED, 1).problems,
    )
    now = hooks.progress.now

    def saved(done: int, most: int) -> None:
        (hooks.added if now.rows_total else hooks.found)(done - now.rows_done)
        now.rows_total = most

    make_donor(plan, LoopHooks(on_save=saved, on_evaluation=lambda e: hooks.say(told(e)), stop=hooks.stop), hooks.say)


def _own_reasoning(arguments: Mapping[str, Any], hooks: JobHooks) -> None:
    from foreshock.batch.on_runs.opened import OpenedRun, Tally
    from foreshock.batch.on_runs.own_reasoning import Cuts, OwnReasoning, Then

    cuts = Cuts(tuple(arguments["percents"]), Then(arguments["then"]), arguments["repeats"], arguments["per_type"])
    opened = OpenedRun.read(Path(arguments["run"]), arguments["checkpoints"])
    work = OwnReasoning(opened, cuts, hooks.stop, hooks.say, Tally(hooks.found, hooks.added))
    hooks.progress.now.rows_total = sum(work.planned().values())
    report = work.measure(force=arguments["force"])
    hooks.progress.now.rows_failed = report.n_failed
    if report.n_failed:
        raise ForeshockError(f"{report.n_failed} continuations failed; the same command tries them again")


def _split(arguments: Mapping[str, Any], hooks: JobHooks) -> None:
    from foreshock.batch.on_runs.opened import OpenedRun, Tally
    from foreshock.batch.on_runs.splitting import SplitSettings, Splitting

    settings = SplitSettings(
        arguments["particles"],
        arguments["repeats"],
        tuple(arguments["levels"]),
        arguments["power"],
        tuple(arguments["types"]),
    )
    opened = OpenedRun.read(Path(arguments["run"]), arguments["checkpoints"])
    work = Splitting(opened, settings, hooks.stop, hooks.say, Tally(hooks.found, hooks.added))
    hooks.progress.now.rows_total = len(work.parts) * settings.repeats
    work.measure(force=arguments["force"])


WORK: Mapping[str, Callable[[Mapping[str, Any], JobHooks], None]] = {
    DONOR: _donor,
    OWN_REASONING: _own_reasoning,
    SPLIT: _split,
}
