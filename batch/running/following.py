"""Work that is known only once what a run planned is there: exploit code after its own honest reasoning, then adaptive
rounds."""

from __future__ import annotations

from foreshock.batch.config import OWN, RunConfig
from foreshock.batch.running.adaptive import next_round
from foreshock.batch.running.honest import add_honest
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import JobKind

FOLLOWING = (JobKind.EXTRA, JobKind.HONEST_LOGPROB)
"""Kinds of work that may come after what was planned first."""


def is_followed(config: RunConfig) -> bool:
    """Whether anything may come after the sweep."""
    return config.adaptive.enabled or config.logprob.honest_reasoning == OWN


def next_specs(layout: RunLayout, plan: PlanFile, config: RunConfig) -> tuple[str, PlanFile] | None:
    """(what comes, the plan with its specs, durable); None when nothing more does.

    Call it when all that is planned so far is complete.
    """
    larger = add_honest(layout, plan, config)
    if larger is not None:
        return "exploit code after honest reasoning", larger
    larger = next_round(layout, plan, config)
    return None if larger is None else ("adaptive", larger)
