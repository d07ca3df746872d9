"""Exploit code after the run's own honest reasoning: chosen from its first checkpoint's unprompted samples, once.

What was chosen is frozen in `inputs/honest.jsonl` before any work exists that rests on it, and never chosen again; all
checkpoints, later ones included, are scored behind the same words.
"""

from __future__ import annotations

from foreshock.batch.config import OWN, RunConfig
from foreshock.batch.planning.admission import ADMISSION
from foreshock.batch.planning.honest import CHOSEN_LATER, honest_notes, obstacles
from foreshock.batch.planning.lengths import planned_too_long
from foreshock.batch.planning.specs import ModelFacts, SpecBuilder
from foreshock.jobs.honest import choose_honest, read_honest, write_honest
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import EXPLOIT_CODE, PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec

OWN_SAMPLES = "its own samples"


def add_honest(layout: RunLayout, plan: PlanFile, config: RunConfig) -> PlanFile | None:
    """The plan with the scores of exploit code after honest reasoning that it lacks, durable; None where it lacks none,
    or while the first checkpoint's unprompted samples are not all there."""
    if config.logprob.honest_reasoning != OWN:
        return None
    unprompted: dict[Checkpoint, list[JobSpec]] = {}
    for spec in plan.specs:
        if spec.kind is JobKind.EVAL and spec.levels == (0,):
            unprompted.setdefault(spec.checkpoint, []).append(spec)
    scored = {spec.checkpoint for spec in plan.specs if spec.kind is JobKind.HONEST_LOGPROB}
    lacking = [checkpoint for checkpoint in unprompted if checkpoint not in scored]
    tasks = tuple(plan.extra[EXPLOIT_CODE]["tasks"])
    if not lacking or not tasks:
        return None
    if not layout.honest.is_file() and not _choose(layout, plan, unprompted[min(unprompted)], tasks):
        return None
    inputs = RunInputs.read(layout, plan.settings.assignment, plan.n_attempts)
    builder = SpecBuilder(config, inputs, "", 0, plan.settings, planned_too_long(plan), tasks)
    specs: list[JobSpec] = []
    for checkpoint in lacking:
        base = unprompted[checkpoint][0]
        specs += builder.honest(
            checkpoint, ModelFacts(base.model_fingerprint, base.prompt_format, base.template_sha256)
        )
    admission = dict(plan.extra[ADMISSION])
    before = [note for note in admission["notes"] if note != CHOSEN_LATER]
    admission["notes"] = list(dict.fromkeys([*before, *honest_notes(inputs.honest)]))
    larger = PlanFile(
        plan.specs, plan.settings, plan.skipped, plan.n_attempts, plan.n_rollouts, plan.extra | {ADMISSION: admission}
    ).with_specs(specs)
    larger.write(layout)
    return larger


def chosen_notes(layout: RunLayout) -> list[str]:
    """What was chosen, in sentences."""
    return honest_notes(read_honest(layout.honest))


def _choose(layout: RunLayout, plan: PlanFile, specs: list[JobSpec], tasks: tuple[str, ...]) -> bool:
    """Choose from a checkpoint's unprompted samples and freeze it; false while some of them are missing."""
    store = ShardStore(layout)
    if not all(store.is_complete(spec) for spec in specs):
        return False
    rows = [row for spec in specs for row in store.rows(spec) if row["attempt_idx"] < plan.n_attempts]
    rows.sort(key=lambda row: int(row["attempt_idx"]))
    settings, base = plan.settings, specs[0]
    inputs = RunInputs.read(layout, settings.assignment, plan.n_attempts)
    obstacle = obstacles(
        run_format(settings, base.checkpoint, base.prompt_format),
        settings.system,
        settings.instructions,
        inputs.problems,
        plan.extra["lengths"]["context"],
    )
    chosen = choose_honest(((OWN_SAMPLES, row) for row in rows), tasks, obstacle)
    write_honest(layout.honest, chosen.values())
    return True
