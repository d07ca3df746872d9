"""Compose the command line that runs foreshock inside an image on a compute node. Pure: nothing is run or looked up.

The container sees nothing by accident. The environment starts empty and holds what is listed here, the home directory
is a folder in scratch, and only named folders are bound. Values of variables travel in `APPTAINERENV_NAME` rather
than in `--env NAME=VALUE`, because that option splits values at commas.

One command line serves setuid and unprivileged installations, Apptainer and SingularityCE; what differs between them
is in `Flavour`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from foreshock.containers.environment import cache_environment
from foreshock.containers.errors import ImageError

PASS_THROUGH = (
    "SLURM_*", "SLURMD_*", "SUBMITIT_*", "FORESHOCK_*", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TZ",
)  # fmt: skip
"""Variables that the job script hands over when they are set; a trailing `*` matches any ending."""

_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


class Flavour(StrEnum):
    """Which program runs SIF images."""

    APPTAINER = "apptainer"
    SINGULARITY_CE = "singularity"

    @property
    def environment_prefix(self) -> str:
        """Variables so named on the host appear, without the prefix, in the container."""
        return "APPTAINERENV_" if self is Flavour.APPTAINER else "SINGULARITYENV_"

    @property
    def unpack_option(self) -> str:
        """Unpack a SIF into a temporary folder in place of mounting it through FUSE."""
        return "--unsquash" if self is Flavour.APPTAINER else "--tmp-sandbox"


class RootFilesystem(StrEnum):
    """How the image's files reach the container.

    MOUNT mounts the SIF (through squashfuse without setuid); UNPACK unpacks it at each start: needs no FUSE and
    survives signals sent to every process of the step, but copies gigabytes; SANDBOX is a folder made once.
    """

    MOUNT = "mount"
    UNPACK = "unpack"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the host, at the same path inside unless `target` says otherwise. Read-only unless `writable`."""

    source: str
    target: str | None = None
    writable: bool = False

    def option(self) -> str:
        """`SRC:DST:MODE`. Raises ImageError for what the syntax cannot express."""
        target = self.target or self.source
        for path in (self.source, target):
            if not path.startswith(("/", "${")):
                raise ImageError(f"bind {path!r} is not an absolute path; give it from the root")
            # Braces hold no path of ours but a variable of the job script.
            if any(mark in _VARIABLE.sub("", path) for mark in ":,\\\n"):
                raise ImageError(f"bind {path!r} contains ':', ',' or a backslash; bind its parent folder instead")
        return f"{self.source}:{target}:{'rw' if self.writable else 'ro'}"


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What to run, in which image, seeing what.

    `image` is a SIF or a sandbox folder. `scratch` is a writable folder of this job alone: temporary files, caches and
    the home directory go there; it may contain `${NAME}`, which the job script's shell fills in on the node.
    `gpus` counts GPUs of the job; without any, no driver is brought in. `digest` goes to FORESHOCK_IMAGE_DIGEST.
    """

    image: str
    command: tuple[str, ...]
    scratch: str
    binds: tuple[Bind, ...] = ()
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    root: RootFilesystem = RootFilesystem.MOUNT
    flavour: Flavour = Flavour.APPTAINER
    digest: str | None = None
    network: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """A composed command: folders that must exist, variables of the calling process, arguments."""

    folders: tuple[str, ...]
    environment: Mapping[str, str]
    argv: tuple[str, ...]
    flavour: Flavour

    def shell(self, pass_through: tuple[str, ...] = PASS_THROUGH) -> str:
        """The same as bash, for a job script: makes the folders, hands variables over, becomes the container.

        The last line has no `exec`: a caller that must keep its shell (to requeue afterwards) runs it as it is.
        """
        lines = ["mkdir -p " + " ".join(quote(folder) for folder in self.folders)]
        lines.append(pass_through_shell(self.flavour, pass_through))
        lines += [f"export {name}={quote(value)}" for name, value in self.environment.items()]
        lines.append(" ".join(quote(word) for word in self.argv))
        return "\n".join(lines) + "\n"


def compose(request: ExecRequest) -> Launch:
    """The `apptainer exec` command line of a request.

    Raises ImageError for an empty command, a negative number of GPUs, a relative path or a name that is not one of
    an environment variable.
    """
    _validate(request)
    scratch = request.scratch.rstrip("/")
    home, temporary = f"{scratch}/home", f"{scratch}/tmp"
    argv = [request.flavour.value, "exec", "--cleanenv", "--no-mount", "cwd", "--home", home]
    if request.gpus:
        argv.append("--nv")
    if request.root is RootFilesystem.UNPACK:
        argv.append(request.flavour.unpack_option)
    if not request.network:
        argv += ["--net", "--network", "none"]
    own = (
        Bind(scratch, writable=True),
        Bind(temporary, "/tmp", writable=True),
        Bind(temporary, "/var/tmp", writable=True),
    )
    for bind in (*own, *request.binds):
        argv += ["--bind", bind.option()]
    argv += ["--pwd", request.working_directory or scratch, request.image, *request.command]
    inside = {**cache_environment(scratch), "FORESHOCK_SCRATCH": scratch, **request.environment}
    if request.digest is not None:
        inside["FORESHOCK_IMAGE_DIGEST"] = request.digest
    prefix = request.flavour.environment_prefix
    return Launch(
        folders=(home, temporary, f"{scratch}/cache"),
        environment={f"{prefix}{name}": value for name, value in sorted(inside.items())},
        argv=tuple(argv),
        flavour=request.flavour,
    )


def pass_through_shell(flavour: Flavour, patterns: tuple[str, ...] = PASS_THROUGH) -> str:
    """One line of bash that hands the host's variables over, at run time, when their values are known."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ImageError(f"{pattern!r} is not a variable name, optionally ending in *; correct pass_through")
    alternatives = "|".join(patterns)
    return (
        f"for _name in $(compgen -e); do case $_name in {alternatives}) "
        f'export "{flavour.environment_prefix}$_name=${{!_name}}" ;; esac; done; unset _name'
    )


def quote(word: str) -> str:
    """Shell-quote a word, leaving `${NAME}` to the shell that runs it."""
    if not _VARIABLE.search(word):
        return shlex.quote(word)
    pieces = []
    last = 0
    for match in _VARIABLE.finditer(word):
        if match.start() > last:
            pieces.append(shlex.quote(word[last : match.start()]))
        pieces.append(f'"{match.group()}"')
        last = match.end()
    if last < len(word):
        pieces.append(shlex.quote(word[last:]))
    return "".join(pieces)


def runtime_flavour(version_line: str) -> Flavour:
    """Flavour from `apptainer --version` or `singularity --version`; Apptainer also answers to the latter name.

    Raises ImageError for Singularity before SingularityCE, which lacks options used here.
    """
    line = version_line.strip()
    if line.startswith("apptainer version"):
        return Flavour.APPTAINER
    match = re.match(r"singularity-ce version (\d+)", line)
    if match and int(match.group(1)) >= 4:
        return Flavour.SINGULARITY_CE
    raise ImageError(
        f"{line!r} is neither Apptainer nor SingularityCE 4 or newer; "
        "load or install one of them (often: module load apptainer)"
    )


def _validate(request: ExecRequest) -> None:
    if not request.command:
        raise ImageError("no command to run in the image; give at least one word, such as foreshock")
    if request.gpus < 0:
        raise ImageError(f"gpus is {request.gpus}; valid: 0 or more")
    for what, path in (("scratch", request.scratch), ("working directory", request.working_directory)):
        if path is not None and not path.startswith(("/", "${")):
            raise ImageError(f"{what} {path!r} is not an absolute path; give it from the root")
    if not PurePosixPath(request.image).name or request.image.startswith("-"):
        raise ImageError(f"{request.image!r} is not an image; give a .sif file or a sandbox folder")
    for name in request.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ImageError(f"{name!r} is not the name of an environment variable; correct the profile")
        if name == "HOME":
            raise ImageError("HOME cannot be set in the container: it is the folder 'home' in scratch")
