"""Checkpoints that are not any more what they were when they were planned."""

from __future__ import annotations

from collections.abc import Sequence

from foreshock.batch.planning.specs import model_facts
from foreshock.batch.watch.ready import signature
from foreshock.batch.watch.state import SeenCheckpoint, WatchState
from foreshock.batch.watch.telling import Events
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import Checkpoint


def tell_changes(
    layout: RunLayout, plan: PlanFile, checkpoints: Sequence[Checkpoint], state: WatchState, events: Events
) -> None:
    """Say so of those of `checkpoints` that changed; their rows stay those of the planned weights."""
    specs = {spec.checkpoint: spec for spec in plan.specs}
    for checkpoint in checkpoints:
        spec = specs[checkpoint]
        seen = state.checkpoints.setdefault(checkpoint.name, SeenCheckpoint(""))
        now = signature(checkpoint.path)
        if now == seen.signature:
            continue
        if not checkpoint.path.is_dir():
            events.say_once("gone", checkpoint.name, f"{checkpoint.name}: deleted; what is evaluated of it stays")
            continue
        try:
            facts = model_facts(plan.settings, checkpoint)
        except (ForeshockError, OSError, ValueError) as error:
            events.say_once("changing", checkpoint.name, f"{checkpoint.name}: being changed: {error}")
            continue
        if (facts.fingerprint, facts.template_sha256) == (spec.model_fingerprint, spec.template_sha256):
            state.checkpoints[checkpoint.name] = SeenCheckpoint(now)
            state.write(layout)
        elif seen.changed != facts.fingerprint:
            seen.changed = facts.fingerprint
            state.write(layout)
            events.say(
                "changed",
                f"{checkpoint.name}: changed since it was planned (fingerprint {facts.fingerprint[:12]}, planned "
                f"{spec.model_fingerprint[:12]}); its rows stay those of the earlier weights, and nothing more of "
                "it is evaluated. Restore it, or evaluate the new weights in another run",
                checkpoint=checkpoint.name,
                fingerprint=facts.fingerprint,
                planned=spec.model_fingerprint,
            )
