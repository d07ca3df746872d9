"""Site profiles: what a job asks Slurm for, in a small YAML file per kind of node.

A profile holds what sites differ in and nothing about the run. Unknown keys are refused (a misspelt `partition` would
send a night's work to the default one), and whatever Slurm offers beyond these keys goes verbatim through `sbatch`.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo

from foreshock.errors import InputError
from foreshock.slurm.gpus import asked_gpus, count_gres, gpu_requests
from foreshock.slurm.sbatch_options import by_long_name, long_name
from foreshock.yamlfile import KeyLines, load_yaml

_DAYS = re.compile(r"^(?P<d>\d+)-(?P<h>\d+)(?::(?P<m>\d{1,2})(?::(?P<s>\d{1,2}))?)?$")
_CLOCK = re.compile(r"^(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d{1,2})$")
_TIME_FORMS = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"
_LONGEST_BARE = 7 * 24 * 60
"""Minutes that a bare number may ask for; beyond a week it is rather 12:00:00 without quotes, or seconds."""
_MEM = re.compile(r"^\d+[KMGT]B?$", re.IGNORECASE)
_OWN_FLAGS = frozenset(
    {"array", "job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "dependency", "wait"}
)
_ONE_CLUSTER = frozenset({"cluster", "clusters"})
_ONE_NODE = frozenset({"nodes", "ntasks", "ntasks-per-node"})


def _minutes(value: Any, info: ValidationInfo) -> Any:
    """Whole minutes from any of Slurm's forms, seconds rounded up."""
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit():
            return int(text)
        if text.upper() in ("UNLIMITED", "INFINITE"):
            raise ValueError(f"{value!r} leaves nothing to pack work into; give the partition's limit, e.g. 7-0")
        match = _DAYS.match(text) or _CLOCK.match(text)
        if match is None:
            raise ValueError(f"{value!r} is not a time; valid: {_TIME_FORMS}")
        d, h, m, s = (int(match.groupdict().get(part) or 0) for part in "dhms")
        return d * 1440 + h * 60 + m + -(-s // 60)
    if isinstance(value, int) and value > _LONGEST_BARE and not info.context:
        raise ValueError(
            f"{value} minutes are {value / 1440:.0f} days; YAML reads 12:00:00 without quotes as 43200: "
            f"quote it, or write days as D-HH"
        )
    return value


def _memory(value: Any) -> Any:
    """Slurm's memory notation; a bare number would mean megabytes there, so it is refused."""
    text = str(value).strip()
    if not _MEM.match(text):
        raise ValueError(f"{value!r} is not an amount of memory; valid: 32G, 900M, 1T")
    return text


def _options(value: Any) -> Any:
    return by_long_name(value) if isinstance(value, dict) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContainerProfile(_Section):
    """The image that workers run in."""

    image: str = Field(
        min_length=1, description="A .sif file or sandbox folder as the nodes see it; pyxis: a .sqsh; podman: a name"
    )
    runtime: str = Field(
        "apptainer", description="Program that runs it: apptainer, singularity, podman, podman-hpc, pyxis"
    )
    binds: tuple[str, ...] = Field((), description="Further binds, SRC[:DST[:ro|rw]]")
    env: tuple[str, ...] = Field(
        (),
        description="Variables inside, on purpose: `NAME=value`, or `NAME` and `NCCL_*` from the job's own; "
        "`${X}` in a value is filled in on the node; secrets by name alone",
    )
    unpack: bool = Field(False, description="Unpack the image at each start: needs no FUSE, but copies it")
    nv: bool = Field(True, description="Bring in the GPU driver where the profile asks for GPUs, however it does")
    rocm: bool = Field(False, description="The GPUs are AMD's")
    verify: bool = Field(False, description="Start nothing in an image without a valid signature")
    key: str | None = Field(None, description="Public key that has to have signed it; default: the user's keyring")


class Profile(_Section):
    """What jobs of one kind ask for."""

    description: str = Field("", description="What the profile is for")
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_node: int = Field(0, ge=0, description="GPUs a job; 0 asks for none, unless `gres` or `sbatch` does")
    gpu_memory_gib: float | None = Field(None, gt=0.0, description="Memory of one GPU: `plan` says what fits")
    gres: str | None = Field(None, description="Generic resources, e.g. gpu:a100:1 instead of gpus_per_node")
    cpus_per_task: int = Field(1, ge=1)
    mem: Annotated[str | None, BeforeValidator(lambda v: v if v is None else _memory(v))] = None
    time: Annotated[int, BeforeValidator(_minutes)] = Field(
        240, ge=1, description='Wall time as sbatch takes it: minutes, "MM:SS", "HH:MM:SS", D-HH, "D-HH:MM:SS"'
    )
    signal_lead_s: int = Field(
        120,
        ge=0,
        le=65535,
        description="Seconds before the time limit that work is stopped: more than the slowest batch and its verdicts",
    )
    array_throttle: int | None = Field(None, ge=1, description="Array elements that may run at once; packing's GPUs")
    max_array_size: int | None = Field(None, ge=2, description="Default: asked of the controller")
    max_submit: int | None = Field(None, ge=2, description="Jobs you may have queued; default: asked of accounting")
    canary: bool = Field(True, description="Watch for preemption through a small job step")
    node_failure_s: int = Field(
        60, ge=0, description="A node on which two elements fail this soon, while others do work, gets no more; 0: off"
    )
    no_progress_limit: int = Field(3, ge=1, description="Attempts in a row that add nothing before a task is given up")
    setup: tuple[str, ...] = Field((), description="Shell lines before the worker: module load, source activate")
    python: str | None = Field(None, description="Interpreter on the nodes; default: the submitting one")
    scratch: str | None = Field(
        None, description="Node-local folder for caches, shell variables allowed; default: $TMPDIR"
    )
    offline: bool = Field(False, description="Nodes have no internet: use Hugging Face files from the cache only")
    container: ContainerProfile | None = Field(None, description="Image that workers run in; none: the node itself")
    costs: dict[str, Any] = Field(
        default_factory=dict,
        description="First guesses: load_s, swap_s, rows; weights_gib: size of the model that they are of",
    )
    sbatch: Annotated[dict[str, str | int | bool], BeforeValidator(_options)] = Field(
        default_factory=dict, description="Further sbatch options by long name"
    )
    final: str = Field("cpu", description="Profile of the aggregate-and-analyse job: a shipped name or a file")

    @property
    def gpus(self) -> int:
        """GPUs of a job, however the profile asks for them."""
        return asked_gpus(self.gpus_per_node, self.gres, self.sbatch)

    def _gres(self) -> str | None:
        count = self.gpus_per_node and f"gpu:{self.gpus_per_node}"
        if self.gres is None or count_gres(self.gres):
            return self.gres or count or None
        return f"{count},{self.gres}" if count else self.gres

    def flags(self) -> dict[str, str | int | bool]:
        """sbatch options by long name; True is an option without a value."""
        wanted: dict[str, str | int | bool | None] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "gres": self._gres(),
            "nodes": 1,
            "ntasks": 1,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "time": self.time,
            "signal": f"B:USR1@{self.signal_lead_s}",
            "requeue": True,
            "open-mode": "append",
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        own, further = given.get("gres"), self.sbatch.get("gres")
        both = {"gres": f"{own},{further}"} if own and further else {}  # the second would replace the first
        return given | self.sbatch | both


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with foreshock."""
    folder = resources.files("foreshock.slurm") / "profiles"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_profile(name: str) -> Profile:
    """A shipped profile by name, or one from a YAML file. Raises InputError with every error, each by its key."""
    path = Path(name).expanduser()
    if name in shipped_profiles():
        path = Path(str(resources.files("foreshock.slurm") / "profiles" / f"{name}.yaml"))
    elif not path.is_file():
        raise InputError(
            f"no such Slurm profile: {name!r}; shipped: {', '.join(shipped_profiles())}; or give a YAML file",
            fix="docs/slurm.md says how to write one for your site",
        )
    data, lines = load_yaml(path)
    return parse_profile(data, path, lines)


def stored_profile(data: Any) -> Profile:
    """A profile as a journal keeps it, which was validated when it was read. Raises InputError."""
    return parse_profile(data, stored=True)


def parse_profile(
    data: Any, path: Path | None = None, lines: KeyLines | None = None, *, stored: bool = False
) -> Profile:
    """Validate plain data; `lines` says where its keys stand. Raises InputError."""
    if not isinstance(data, dict):
        raise InputError(f"expected a mapping; valid keys: {', '.join(Profile.model_fields)}", path=path)
    lines = lines or {}
    _require_own_options(data, path, lines)
    try:
        profile = Profile.model_validate(data, context={"stored": True} if stored else None)
    except ValidationError as error:
        texts = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            line = lines.get(tuple(problem["loc"]))
            at = "" if line is None else f"line {line}: "
            if problem["type"] == "extra_forbidden":
                fields = Profile.model_fields if len(problem["loc"]) == 1 else ContainerProfile.model_fields
                texts.append(f"{at}unknown key {key!r} (valid: {', '.join(fields)})")
            else:
                texts.append(f"{at}{key}: {problem['msg'].removeprefix('Value error, ')} (given: {problem['input']!r})")
        raise InputError("errors in the Slurm profile:\n  " + "\n  ".join(texts), path=path) from None
    if profile.signal_lead_s >= profile.time * 60:
        raise InputError(
            f"signal_lead_s {profile.signal_lead_s} is not below the wall time of {profile.time * 60} s", path=path
        )
    return profile


def _require_own_options(data: dict[str, Any], path: Path | None, lines: KeyLines) -> None:
    """Refuse, under `sbatch`, what foreshock sets, what has a key of its own, and GPUs that are asked for twice."""
    further = data.get("sbatch") or {}
    if not isinstance(further, dict):
        return
    for key in further:
        name, line = long_name(str(key)), lines.get(("sbatch", str(key)))
        if name in _OWN_FLAGS:
            raise InputError(
                f"sbatch.{name} is set by foreshock itself and cannot be given in a profile", path=path, line=line
            )
        if name in _ONE_CLUSTER:
            raise InputError(
                f"sbatch.{name}: foreshock asks one cluster about its jobs, the one that this machine's sbatch uses",
                path=path,
                line=line,
                fix="submit from a login node of that cluster, or set SLURM_CONF to its configuration",
            )
        if name == "time":
            raise InputError("sbatch.time: use the key `time`, which packing reads", path=path, line=line)
        if name in _ONE_NODE and str(further[key]) != "1":
            raise InputError(
                f"sbatch.{name} is {further[key]}: a worker is one task on one node",
                path=path,
                line=line,
                fix="spread a model over the GPUs of a node: gpus_per_node, and tensor_parallel_size in engine.options",
            )
    for key, value in [*data.items(), *((f"sbatch.{key}", value) for key, value in further.items())]:
        if isinstance(value, str) and key not in ("description", "scratch", "final") and len(value.splitlines()) > 1:
            raise InputError(f"{key}: a line break in {value!r} would end the line of #SBATCH", path=path)
    per_node, gres = data.get("gpus_per_node"), data.get("gres")
    if isinstance(gres, str) and per_node and count_gres(gres) not in (0, per_node):
        raise InputError(f"gres asks for {count_gres(gres)} GPUs, gpus_per_node for {per_node}", path=path)
    try:
        named = by_long_name(further)
    except ValueError as error:
        raise InputError(f"sbatch: {error}", path=path, line=lines.get(("sbatch",))) from None
    asked = gpu_requests(per_node, gres, named)
    if len(asked) > 1:
        raise InputError(f"GPUs are asked for more than once: {', '.join(asked)}; keep one of them", path=path)
