"""Site profiles: what a job asks Slurm for, in a small YAML file per kind of node.

A profile holds what the site differs in and nothing about the run. Unknown keys are refused (a misspelt `partition`
would send a night's work to the default one), and whatever Slurm offers beyond these keys goes verbatim through
`sbatch`.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from foreshock.errors import InputError

_TIME = re.compile(r"^(?:(?P<d>\d+)-)?(?P<h>\d+):(?P<m>\d{1,2})(?::(?P<s>\d{1,2}))?$")
_MEM = re.compile(r"^\d+[KMGT]?$")
_OWN_FLAGS = frozenset(
    {"array", "job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "dependency", "wait"}
)


def _minutes(value: Any) -> Any:
    """Minutes from Slurm's D-HH:MM:SS, HH:MM[:SS] or a number of minutes."""
    if isinstance(value, str):
        match = _TIME.match(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not a time; valid: minutes, HH:MM, HH:MM:SS or D-HH:MM:SS")
        d, h, m, s = (int(part or 0) for part in match.group("d", "h", "m", "s"))
        return d * 1440 + h * 60 + m + (1 if s else 0)
    return value


def _memory(value: Any) -> Any:
    """Slurm's memory notation; a bare number would mean megabytes there, so it is refused."""
    text = str(value)
    if not _MEM.match(text) or text.isdigit():
        raise ValueError(f"{value!r} is not an amount of memory; valid: 32G, 900M, 1T")
    return text


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContainerProfile(_Section):
    """The image that workers run in."""

    image: Path = Field(description="Apptainer image (.sif) or sandbox folder, as the nodes see it")
    binds: tuple[str, ...] = Field((), description="Further binds, SRC[:DST[:ro]]")
    nv: bool = Field(True, description="Make the node's NVIDIA driver visible inside")


class Profile(_Section):
    """What jobs of one kind ask for."""

    description: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus_per_node: int = Field(0, ge=0, description="GPUs a job; 0 asks for none")
    gpu_memory_gib: float | None = Field(None, gt=0.0, description="Memory of one GPU: `plan` says what fits")
    gres: str | None = Field(None, description="Instead of gpus_per_node where sites want it, e.g. gpu:a100:1")
    cpus_per_task: int = Field(1, ge=1)
    mem: Annotated[str | None, BeforeValidator(lambda v: v if v is None else _memory(v))] = None
    time: Annotated[int, BeforeValidator(_minutes)] = Field(240, ge=1, description="Wall time, minutes or D-HH:MM:SS")
    signal_lead_s: int = Field(120, ge=0, le=65535, description="Seconds before the time limit that work is stopped")
    array_throttle: int | None = Field(None, ge=1, description="Array elements that may run at once; packing's GPUs")
    max_array_size: int | None = Field(None, ge=2, description="Default: asked of the controller")
    max_submit: int | None = Field(None, ge=2, description="Jobs you may have queued; default: asked of accounting")
    canary: bool = Field(True, description="Watch for preemption through a small job step")
    no_progress_limit: int = Field(3, ge=1, description="Attempts in a row that add nothing before a task is given up")
    setup: tuple[str, ...] = Field((), description="Shell lines before the worker: module load, source activate")
    python: str | None = Field(None, description="Interpreter on the nodes; default: the submitting one")
    scratch: str | None = Field(
        None, description="Node-local folder for caches, shell variables allowed; default: $TMPDIR"
    )
    offline: bool = Field(False, description="Nodes have no internet: use Hugging Face files from the cache only")
    container: ContainerProfile | None = None
    costs: dict[str, Any] = Field(default_factory=dict, description="First guesses: load_s, swap_s, rows")
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict, description="Further sbatch options by long name")
    final: str = Field("cpu", description="Profile of the aggregate-and-analyse job: a shipped name or a file")

    def flags(self) -> dict[str, str | int | bool]:
        """sbatch options by long name; True is an option without a value."""
        wanted: dict[str, str | int | bool | None] = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "gres": self.gres or (f"gpu:{self.gpus_per_node}" if self.gpus_per_node else None),
            "nodes": 1,
            "ntasks": 1,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "time": self.time,
            "signal": f"B:USR1@{self.signal_lead_s}",
            "requeue": True,
            "open-mode": "append",
        }
        return {name: value for name, value in wanted.items() if value is not None} | self.sbatch


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
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise InputError(f"not valid YAML: {error.problem}", path=path, line=line) from None
    return parse_profile(data, path)


def parse_profile(data: Any, path: Path | None = None) -> Profile:
    """Validate plain data. Raises InputError."""
    if not isinstance(data, dict):
        raise InputError(f"expected a mapping; valid keys: {', '.join(Profile.model_fields)}", path=path)
    reserved = sorted(_OWN_FLAGS & {str(key).lstrip("-").replace("_", "-") for key in data.get("sbatch") or {}})
    if reserved:
        raise InputError(f"sbatch.{reserved[0]} is set by foreshock itself and cannot be given in a profile", path=path)
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        texts = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                texts.append(f"unknown key {key!r} (valid: {', '.join(Profile.model_fields)})")
            else:
                texts.append(f"{key}: {problem['msg'].removeprefix('Value error, ')} (given: {problem['input']!r})")
        raise InputError("errors in the Slurm profile:\n  " + "\n  ".join(texts), path=path) from None
    if profile.signal_lead_s >= profile.time * 60:
        raise InputError(
            f"signal_lead_s {profile.signal_lead_s} is not below the wall time of {profile.time * 60} s", path=path
        )
    return profile
