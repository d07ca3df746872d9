"""The executor of a site."""

from __future__ import annotations

from foreshock.batch.config import Cluster
from foreshock.batch.executors.base import Executor
from foreshock.batch.site import Site
from foreshock.jobs.engines.spec import EngineSpec

# After an engine's own, which may hold all of it.
_WORKER = ("foreshock.jobs.worker", "foreshock.jobs.model_files.auto_classes")


def preload(engine: EngineSpec) -> tuple[str, ...]:
    """What CPU workers import once for all; nothing for engines whose own processes want a clean interpreter."""
    return (*engine.preload, *_WORKER) if engine.forked else ()


def make_executor(site: Site) -> Executor:
    """Build the executor; Slurm's is imported only when asked for."""
    match site.cluster:
        case Cluster.INLINE:
            from foreshock.batch.executors.inline import InlineExecutor

            return InlineExecutor()
        case Cluster.LOCAL:
            from foreshock.batch.executors.local import LocalExecutor

            return LocalExecutor(site.workers, site.gpus, site.threads, site.gpus_per_worker, preload(site.engine))
        case Cluster.SLURM:
            from foreshock.batch.executors.slurm import SlurmExecutor

            return SlurmExecutor(site)
