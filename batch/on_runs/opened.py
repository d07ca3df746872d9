"""A run opened for further measurements: what its workers had, and one spec a checkpoint to go by."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.as_planned import require_planned_model
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.engines.registry import ENGINES, create_engine
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import JobKind, JobSpec
from foreshock.jobs.verify.base import Verifier
from foreshock.jobs.worker import engine_options, make_verifier


@dataclass(frozen=True, slots=True)
class Tally:
    """Told of work that is on disk: `found` before this process began, and what it `added`."""

    found: Callable[[int], None] = lambda n: None
    added: Callable[[int], None] = lambda n: None


@dataclass(frozen=True)
class OpenedRun:
    """A planned run, its frozen inputs, and an evaluation spec of each checkpoint, in order."""

    layout: RunLayout
    plan: PlanFile
    inputs: RunInputs
    specs: tuple[JobSpec, ...]

    @classmethod
    def read(cls, folder: Path, checkpoints: Sequence[str] = ()) -> OpenedRun:
        """The run in `folder`; of its checkpoints those named (`checkpoint-40` or `40`), or all.

        Raises InputError for a folder without a plan, and for a checkpoint that the run does not have.
        """
        layout = RunLayout(folder)
        plan = PlanFile.read(layout)
        found: dict[str, JobSpec] = {}
        for spec in plan.specs:
            if spec.kind is JobKind.EVAL:
                found.setdefault(spec.checkpoint.name, spec)
        wanted = [name if name in found else f"checkpoint-{name}" for name in checkpoints] or list(found)
        unknown = [name for name in wanted if name not in found]
        if unknown:
            raise InputError(
                f"no {unknown[0]} in this run; valid: {', '.join(found)}",
                path=folder,
                fix=f"give --checkpoint {next(iter(found))}, or none for all",
            )
        inputs = RunInputs.read(layout, plan.settings.assignment, plan.n_attempts)
        return cls(layout, plan, inputs, tuple(found[name] for name in dict.fromkeys(wanted)))

    def prompt_format(self, spec: JobSpec) -> PromptFormat:
        """How the run writes its prompts for a checkpoint."""
        return run_format(self.plan.settings, spec.checkpoint, spec.prompt_format)

    def engine(self) -> Engine:
        """The run's engine, with nothing loaded; its batches halved as often as a job was killed for memory."""
        settings = self.plan.settings
        halvings = int(os.environ.get("FORESHOCK_BATCH_HALVINGS") or 0)  # the job script counts them
        options = engine_options(settings.engine_options, halvings, ENGINES.get(settings.engine).halved)
        return create_engine(settings.engine, options)

    def verifier(self) -> Verifier:
        """The run's verifier. Raises ForeshockError where this machine's is another."""
        return make_verifier(self.plan.settings, self.specs)

    def load(self, engine: Engine, spec: JobSpec) -> None:
        """Load a checkpoint. Raises ForeshockError if its weights are not those that the run was planned with."""
        require_planned_model(spec.checkpoint, spec.model_fingerprint)
        engine.load(spec.checkpoint)
