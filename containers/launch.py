"""What runs in an image, seeing what: the request, and the pieces that every runtime makes its command line from.

Pure: nothing is run or looked up. The container sees nothing by accident. The environment starts empty and holds what
is listed here, the home directory is a folder in scratch, and only named folders are bound.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from foreshock.containers.environment import cache_environment
from foreshock.containers.errors import ImageError
from foreshock.image_record import IMAGE_FILE

PASS_THROUGH = (
    "SLURM_*", "SLURMD_*", "SUBMITIT_*", "FORESHOCK_*", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TZ",
)  # fmt: skip
"""Variables that the job script hands over when they are set; a trailing `*` matches any ending."""

_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_SECRET = re.compile(
    r"(^|_)(TOKEN|SECRET|PASS|PASSWD|PASSWORD|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)(_|$)", re.IGNORECASE
)


class Flavour(StrEnum):
    """Which program runs SIF images; the values are names of runtimes."""

    APPTAINER = "apptainer"
    SINGULARITY_CE = "singularity"


class GpuKind(StrEnum):
    """Whose GPUs a job has."""

    NVIDIA = "nvidia"
    ROCM = "rocm"


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the host, at the same path inside unless `target` says otherwise. Read-only unless `writable`."""

    source: str
    target: str | None = None
    writable: bool = False

    @classmethod
    def parse(cls, text: str) -> Bind:
        """SRC[:DST[:ro|rw]] as profiles write it. Raises ImageError."""
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        if mode not in ("", "ro", "rw"):
            raise ImageError(f"bind {text!r}: {mode!r} is no mode; valid: SRC[:DST[:ro|rw]]")
        bind = cls(source, target or None, writable=mode == "rw")
        bind.option()
        return bind

    def option(self) -> str:
        """`SRC:DST:MODE`. Raises ImageError for what the syntax cannot express."""
        target = self.target or self.source
        for path in (self.source, target):
            if not path.startswith(("/", "${")):
                raise ImageError(f"bind {path!r} is not an absolute path; give it from the root")
            # Braces hold no path of ours but a variable of the job script.
            if any(mark in _VARIABLE.sub("", path) for mark in ":,\\\n"):
                raise ImageError(
                    f"bind {path!r} contains ':', ',', a backslash or a line break; bind its parent folder instead"
                )
        return f"{self.source}:{target}:{'rw' if self.writable else 'ro'}"


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """What to run, in which image, seeing what.

    `image` is what the runtime takes: a SIF, a sandbox folder, a squashfs file, a name. `scratch` is a writable folder
    of this job alone: temporary files, caches and the home directory go there; it may contain `${NAME}`, which the job
    script's shell fills in on the node. `gpus` counts GPUs of the job; without any, no driver is brought in.
    `environment` is set inside; `pass_through` are names and patterns of the job's own variables that are handed over.
    `unpack`: the image is unpacked at each start instead of mounted. `image_file` is the image's file, which the worker
    reads to say what it runs in.
    """

    image: str
    command: tuple[str, ...]
    scratch: str
    binds: tuple[Bind, ...] = ()
    gpus: int = 0
    gpu_kind: GpuKind = GpuKind.NVIDIA
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_through: tuple[str, ...] = PASS_THROUGH
    working_directory: str | None = None
    unpack: bool = False
    runtime: str = Flavour.APPTAINER.value
    image_file: str | None = None
    network: bool = True


@dataclass(frozen=True, slots=True)
class Launch:
    """A composed command: folders that must exist, variables of the calling process, arguments.

    `setup` are shell lines before it, `cleanup` lines for the job's end, `prefix` what variables to be handed over are
    called by on the host.
    """

    folders: tuple[str, ...]
    environment: Mapping[str, str]
    argv: tuple[str, ...]
    prefix: str = ""
    pass_through: tuple[str, ...] = PASS_THROUGH
    setup: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        request: ExecRequest,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        prefix: str = "",
        setup: tuple[str, ...] = (),
        cleanup: tuple[str, ...] = (),
    ) -> Launch:
        """The command of a request, with the folders that every runtime needs."""
        scratch = request.scratch.rstrip("/")
        folders = (f"{scratch}/home", f"{scratch}/tmp", f"{scratch}/cache")
        sorted_environment = dict(sorted(environment.items()))
        return cls(folders, sorted_environment, argv, prefix, request.pass_through, setup, cleanup)

    def prelude(self) -> tuple[str, ...]:
        """Shell lines before the command: folders, variables, what the runtime has to know."""
        lines = ["mkdir -p " + " ".join(quote(folder) for folder in self.folders)]
        if self.prefix:
            lines.append(pass_through_shell(self.prefix, self.pass_through))
        lines += [f"export {name}={quote(value)}" for name, value in self.environment.items()]
        return (*lines, *self.setup)

    def command(self) -> str:
        """The command as shell words."""
        return " ".join(quote(word) for word in self.argv)

    def shell(self) -> str:
        """The same as bash, for a job script: makes the folders, hands variables over, becomes the container.

        The last line has no `exec`: a caller that must keep its shell (to requeue afterwards) runs it as it is.
        """
        return "\n".join((*self.prelude(), self.command())) + "\n"


def all_binds(request: ExecRequest) -> tuple[Bind, ...]:
    """Scratch, both temporary folders, what was asked for, and the image's own file."""
    scratch = request.scratch.rstrip("/")
    own = [Bind(scratch, writable=True)]
    own += [Bind(f"{scratch}/tmp", target, writable=True) for target in ("/tmp", "/var/tmp")]
    file = [] if request.image_file is None else [Bind(request.image_file)]
    return (*own, *request.binds, *file)


def inside_environment(request: ExecRequest) -> dict[str, str]:
    """Variables that are set inside, by name."""
    scratch = request.scratch.rstrip("/")
    file = {} if request.image_file is None else {IMAGE_FILE: request.image_file}
    return {**cache_environment(scratch), "FORESHOCK_SCRATCH": scratch, **file, **request.environment}


def pass_through_shell(prefix: str, patterns: tuple[str, ...] = PASS_THROUGH) -> str:
    """One line of bash that hands the host's variables over, at run time, when their values are known."""
    return (
        f"for _name in $(compgen -e); do case $_name in {_alternatives(patterns)}) "
        f'export "{prefix}$_name=${{!_name}}" ;; esac; done; unset _name'
    )


def matching_names(patterns: tuple[str, ...]) -> str:
    """Bash that prints the names of the variables that match, one a line."""
    return f"for _name in $(compgen -e); do case $_name in {_alternatives(patterns)}) echo $_name ;; esac; done"


def _alternatives(patterns: tuple[str, ...]) -> str:
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ImageError(f"{pattern!r} is not a variable name, optionally ending in *; correct the profile's `env`")
    return "|".join(patterns)


def split_environment(entries: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """A profile's `env`: `NAME=value` is set, `NAME` and `NAME_*` are handed over.

    Raises ImageError, also for the value of a secret: it would stand in scripts and in the run's journal.
    """
    values: dict[str, str] = {}
    names = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:
            _alternatives((entry,))
            names.append(entry)
        elif not VARIABLE_NAME.fullmatch(name):
            raise ImageError(f"{entry!r}: {name!r} is not the name of an environment variable; correct `env`")
        elif _SECRET.search(name) and value and not _VARIABLE.fullmatch(value):
            raise ImageError(
                f"`env` holds the value of {name}, which would be written into the run's files; give the name alone "
                f"and export {name} where you submit"
            )
        else:
            values[name] = value
    return values, tuple(names)


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
