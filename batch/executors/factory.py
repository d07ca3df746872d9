"""The executor that a configuration asks for."""

from __future__ import annotations

import os

from foreshock.batch.config import Cluster, RunConfig
from foreshock.batch.executors.base import Executor


def count_gpus() -> int:
    """GPUs that this machine's torch can use."""
    import torch

    return torch.cuda.device_count()


def usable_cpus() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def default_workers(config: RunConfig) -> int:
    """One worker per GPU, or per group that holds one model; without GPUs one per core (vLLM uses them all)."""
    if config.execution.workers is not None:
        return config.execution.workers
    if config.execution.cluster is Cluster.INLINE or config.engine.name == "openai":  # the server is the parallel one
        return 1
    gpus = 0 if config.engine.device == "cpu" else count_gpus()
    if gpus:
        return max(1, gpus // gpus_per_worker(config))
    return 1 if config.engine.name == "vllm" else usable_cpus()


def gpus_per_worker(config: RunConfig) -> int:
    """GPUs that one model is spread over."""
    wanted = config.engine.options.get("tensor_parallel_size", 1)
    return wanted if isinstance(wanted, int) and wanted > 0 else 1  # the engine refuses anything else


def preload(config: RunConfig) -> tuple[str, ...]:
    """What CPU workers import once for all; nothing for vLLM, whose own processes want a clean interpreter."""
    worker = ("foreshock.jobs.worker", "transformers.models.auto.tokenization_auto")
    match config.engine.name:
        case "transformers":
            return (*worker, "foreshock.jobs.engines.transformers")
        case "vllm":
            return ()
        case _:
            return worker


def make_executor(config: RunConfig) -> Executor:
    """Build the executor; Slurm's is imported only when asked for."""
    match config.execution.cluster:
        case Cluster.INLINE:
            from foreshock.batch.executors.inline import InlineExecutor

            return InlineExecutor()
        case Cluster.LOCAL:
            from foreshock.batch.executors.local import LocalExecutor

            workers = default_workers(config)
            gpus = 0 if config.engine.device == "cpu" else count_gpus()
            threads = config.engine.threads or max(1, usable_cpus() // workers)
            return LocalExecutor(workers, gpus, threads, gpus_per_worker(config), preload(config))
        case Cluster.SLURM:
            from foreshock.batch.executors.slurm import SlurmExecutor

            return SlurmExecutor(config)
