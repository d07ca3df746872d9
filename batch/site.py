"""Where a run's work is done: the cluster, its profiles, the image, the GPUs and how many workers share them.

Resolved once, at the edge (the commands, the last job of a Slurm run), from the configuration and this machine; what
needs it takes it. What costs time to find out (counting GPUs, hashing an image) is found out when first asked for.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property

from foreshock.batch.config import AUTO, Cluster, RunConfig
from foreshock.containers.digest import image_file_digest
from foreshock.containers.identity import image_identity, require_image_name
from foreshock.containers.launch import Bind, split_environment
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.errors import InputError
from foreshock.image_record import IMAGE_ID, ImageIdentity, own_file, own_record
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.spec import EngineSpec
from foreshock.jobs.torch_build import visible_gpus
from foreshock.slurm.profile import ContainerProfile, Profile, load_profile

DEFAULT_PROFILE = "gpu"
DEFAULT_SLURM_WORKERS = 8
"""GPUs assumed when neither configuration nor profile says how many."""
_GIB = 2**30


@dataclass(frozen=True)
class SlurmSite:
    """The profiles of a Slurm run: `name` is the workers' as the configuration gives it, `final` the last job's.

    `more` are the profiles of further nodes that take a share of the work.
    """

    name: str
    profile: Profile
    final: Profile
    more: tuple[Profile, ...] = ()

    @property
    def workers(self) -> tuple[int, ...]:
        """Array elements that may run at once: by `profile`, then by each of `more`."""
        return tuple(profile.array_throttle or DEFAULT_SLURM_WORKERS for profile in (self.profile, *self.more))


@dataclass(frozen=True)
class Site:
    """The resolved place of a run. `slurm` is there exactly when `cluster` is Slurm.

    `gpus_per_worker` GPUs hold one model; a worker works at most `max_minutes`, and failed work is tried again in
    `heal` rounds.
    """

    cluster: Cluster
    engine: EngineSpec
    uses_gpus: bool
    gpus_per_worker: int
    max_minutes: float
    heal: int
    slurm: SlurmSite | None
    wanted_workers: int | None
    wanted_threads: int | None
    max_gpu_hours: float | None = None

    @cached_property
    def gpus(self) -> int:
        """GPUs of this machine that workers may use."""
        return count_gpus() if self.uses_gpus else 0

    @cached_property
    def gpu_memory_gib(self) -> float | None:
        """Memory of one GPU: the Slurm profile's figure, else what this machine's smallest GPU has, else None."""
        if self.slurm is not None:
            sizes = [profile.gpu_memory_gib for profile in (self.slurm.profile, *self.slurm.more)]
            known = [size for size in sizes if size is not None]
            return min(known) if len(known) == len(sizes) else None  # any task may come to any of them
        return _from_torch() or _from_nvidia_smi()

    @cached_property
    def workers(self) -> int:
        """One per GPU, or per group of them that holds one model; without GPUs one per core, or one for all of them."""
        if self.wanted_workers is not None:
            return self.wanted_workers
        if self.slurm is not None:
            return sum(self.slurm.workers)
        if self.cluster is Cluster.INLINE:
            return 1
        if self.gpus:
            return max(1, self.gpus // self.gpus_per_worker)
        return 1 if self.engine.one_without_gpu else usable_cpus()

    @property
    def threads(self) -> int:
        """Threads of one CPU worker."""
        return self.wanted_threads or max(1, usable_cpus() // self.workers)

    @property
    def wall_minutes(self) -> float:
        """How long one array task may take, the time to stop in left out."""
        if self.slurm is None:
            return self.max_minutes
        own = [p.time - p.signal_lead_s / 60 for p in (self.slurm.profile, *self.slurm.more)]
        return min(*own, self.max_minutes)

    @cached_property
    def image(self) -> ImageIdentity:
        """The image that workers start in; empty outside of images and for one that is not to be seen.

        Of Slurm jobs it is their profile's, of worker processes the one around this process.
        """
        if self.slurm is None:
            return own_image()
        container = self.slurm.profile.container
        return ImageIdentity() if container is None else image_identity(container.image, container.runtime)

    @property
    def image_note(self) -> str | None:
        """What to say of a job's image that cannot be seen from here, so that no worker can be told from the plan."""
        container = None if self.slurm is None else self.slurm.profile.container
        if container is None or self.image:
            return None
        return (
            f"the image {container.image} cannot be seen from here: shards record what they ran in, and `status` will "
            "say that the plan does not name it; with `strict` nothing would be computed"
        )

    def require_seen_image(self, *, strict: bool) -> None:
        """Raise InputError where every worker would refuse to compute: what the plan cannot name, none can be."""
        if strict and self.image_note is not None:
            raise InputError(
                f"execution.strict: {self.image_note}",
                fix="submit from a machine that sees the image, or set execution: {strict: false}",
            )

    def require_slurm(self) -> SlurmSite:
        """The Slurm part, of a site that has one."""
        if self.slurm is None:
            raise ValueError(f"cluster {self.cluster.value} has no Slurm profile")
        return self.slurm


def site_profile(name: str) -> Profile:
    """A Slurm profile whose image could be started as it asks. Raises InputError, ImageError."""
    profile = load_profile(name)
    if profile.container is not None:
        _require_usable(profile.container)
    return profile


def _require_usable(container: ContainerProfile) -> None:
    """What is wrong with an image's keys, told before anything is planned or journaled."""
    runtime = RUNTIMES.get(container.runtime)
    require_image_name(container.image, container.runtime)
    split_environment(container.env)
    for text in container.binds:
        Bind.parse(text)
    if container.unpack and not runtime.can_unpack:
        raise InputError(f"container.unpack: {runtime.name} does not unpack images at each start; leave it out")
    if container.verify and runtime.verify is None:
        raise InputError(f"container.verify: {runtime.name} cannot check signatures; leave it out")
    kind = "rocm" if container.rocm else "nvidia"
    if kind not in runtime.gpus:
        raise InputError(f"container: {runtime.name} brings in no {kind} GPUs; valid: {', '.join(runtime.gpus)}")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine runs, and why; no reason where the configuration names it."""

    name: str
    reason: str | None = None


def engine_choice(config: RunConfig) -> EngineChoice:
    """The configured engine, or what `auto` comes to: vLLM where it is installed and a GPU is there."""
    engine = config.engine
    if engine.name != AUTO:
        return EngineChoice(engine.name)
    if "base_url" in engine.options:
        return EngineChoice("openai", "engine.options has a base_url")
    if engine.device == "cpu":
        return EngineChoice("transformers", "engine.device is cpu")
    slurm = config.execution.cluster is Cluster.SLURM
    if slurm:
        name = config.execution.profile or DEFAULT_PROFILE
        where, gpus = f"the profile {name}", site_profile(name).gpus
    else:
        where, gpus = "this machine", count_gpus()
    if not gpus:
        return EngineChoice("transformers", f"{where} has no GPU")
    if importlib.util.find_spec("vllm") is None:
        hint = "; if the image or the nodes have it, set engine.name: vllm" if slurm else ""
        return EngineChoice("transformers", f"{where} has {gpus} GPU, but vLLM is not installed here{hint}")
    return EngineChoice("vllm", f"{where} has {gpus} GPU, and vLLM is installed")


def with_engine(config: RunConfig) -> RunConfig:
    """The configuration with the engine that runs in place of `auto`."""
    if config.engine.name != AUTO:
        return config
    engine = config.engine.model_copy(update={"name": engine_choice(config).name})
    return config.model_copy(update={"engine": engine})


def resolve_site(config: RunConfig, slurm: SlurmSite | None = None) -> Site:
    """The place of a run. Raises InputError for a profile that is not there or not valid.

    `slurm` are profiles that were journaled with a submission and hold in place of the configuration's, whose files
    may have changed since or lie out of reach of a job.
    """
    config = with_engine(config)
    execution, engine = config.execution, config.engine
    if execution.cluster is Cluster.SLURM and slurm is None:
        name = execution.profile or DEFAULT_PROFILE
        profile = site_profile(name)
        more = tuple(_fellow(name, profile, other) for other in execution.more_profiles)
        slurm = SlurmSite(name, profile, site_profile(profile.final), more)
    spec = ENGINES.get(engine.name)
    parallel = engine.options.get(spec.gpus_option, 1) if spec.gpus_option else 1
    return Site(
        cluster=execution.cluster,
        engine=spec,
        uses_gpus=spec.on_device and engine.device != "cpu",
        gpus_per_worker=parallel if isinstance(parallel, int) and parallel > 0 else 1,  # engines refuse anything else
        max_minutes=execution.max_minutes,
        heal=execution.heal,
        slurm=slurm,
        wanted_workers=execution.workers,
        wanted_threads=engine.threads,
        max_gpu_hours=execution.max_gpu_hours,
    )


def _fellow(name: str, profile: Profile, other: str) -> Profile:
    """A further profile, if its nodes can do the same tasks. Raises InputError for what must not differ."""
    found = site_profile(other)
    image, others = ("no image" if p.container is None else p.container.image for p in (profile, found))
    for what, own, theirs in (("GPUs a job", profile.gpus, found.gpus), ("image", image, others)):
        if own != theirs:
            raise InputError(
                f"execution.more_profiles: {other} differs from {name} in {what} ({theirs}, not {own}); tasks are "
                "planned for all of a run's profiles alike",
                fix="give both profiles the same, or run the checkpoints of each by a configuration of its own",
            )
    return found


def own_image() -> ImageIdentity:
    """The image around this process; its file's digest is remembered, as reading gigabytes takes a while."""
    file, record = own_file(), own_record()
    readable = file is not None and file.is_file() and os.access(file, os.R_OK)
    digest = image_file_digest(file) if readable and file is not None else os.environ.get(IMAGE_ID) or None
    return ImageIdentity(digest, None if record is None else record.get("content"))


def count_gpus() -> int:
    """GPUs that this machine's torch can use."""
    return visible_gpus()


def usable_cpus() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _from_torch() -> float | None:
    if not visible_gpus():
        return None
    import torch

    sizes = [torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())]
    return round(min(sizes) / _GIB, 1)


def _from_nvidia_smi() -> float | None:
    """For machines whose torch is built without CUDA."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return round(min(float(line) for line in done.stdout.split()) / 1024, 1)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
