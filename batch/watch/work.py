"""Doing a watched run's missing work: here and now, or by way of Slurm.

On a cluster a watch submits each spec once. Redoing what failed is the business of the job that follows the arrays,
which knows when they have ended; a watch that submitted missing work whenever it saw some would put a second writer
beside a job that is about to be requeued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.batch.config import Cluster
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.running.execute import OnSnapshot, execute, missing_specs
from foreshock.batch.site import Site
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.spec import Checkpoint, JobSpec


@dataclass(frozen=True, slots=True)
class Work:
    """What a step of work came to. `missing` specs without a whole shard; of these `waiting` are being worked on
    elsewhere; the others failed, for `failures` if anybody said why."""

    missing: tuple[JobSpec, ...]
    waiting: frozenset[str] = frozenset()
    failures: tuple[str, ...] = ()

    def failed_checkpoints(self) -> list[Checkpoint]:
        """Checkpoints with missing specs that nobody works on."""
        return sorted({spec.checkpoint for spec in self.missing if spec.key() not in self.waiting})


def work_on(layout: RunLayout, plan: PlanFile, site: Site, specs: Sequence[JobSpec], on_snapshot: OnSnapshot) -> Work:
    """Do `specs`, or have them done. Raises StopRequestedError on Ctrl-C, SlurmError when Slurm does not answer."""
    if site.cluster is Cluster.SLURM:
        return _submit_once(layout, plan, site, specs)
    outcome = execute(layout, plan, site, on_snapshot, specs)
    return Work(tuple(outcome.missing), frozenset(), tuple(outcome.failures))


def _submit_once(layout: RunLayout, plan: PlanFile, site: Site, specs: Sequence[JobSpec]) -> Work:
    from foreshock.batch.executors.slurm import SlurmExecutor
    from foreshock.batch.executors.slurm_work import submitted_specs
    from foreshock.slurm.journal import Journal

    executor = SlurmExecutor(site)
    try:
        waiting = executor.queued(layout, plan)  # the last job counts as well: it may still submit another round
        submissions = Journal(layout.root).load_all()
        submitted = {spec.key() for entry in submissions for spec in submitted_specs(layout, plan, entry)}
        missing = missing_specs(layout, plan, specs)
        fresh = [spec for spec in missing if spec.key() not in submitted]
        if fresh:
            tasks = pack_tasks(fresh, site, layout, plan)
            executor.submit(layout, write_pack(layout, tasks), tasks)
            waiting |= {spec.key() for spec in fresh}
    finally:
        executor.release(layout)
    return Work(tuple(missing), waiting)
