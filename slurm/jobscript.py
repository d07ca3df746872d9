"""The text of batch scripts: self-contained bash with the host side inlined.

A person can read one, change a line and submit it by hand, and a running job depends on no file that an upgrade may
replace.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from foreshock.errors import InputError
from foreshock.slurm.profile import Profile

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True, slots=True)
class Program:
    """What a job runs: shell lines that prepare it (folders, variables), the command, lines for the job's end.

    Both may use `${FS_SCRATCH}`, the job's own node-local folder. A container's launcher is part of the command.
    """

    command: str
    prelude: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()

    @classmethod
    def from_argv(cls, argv: Sequence[str]) -> Program:
        """A plain command, quoted."""
        return cls(shlex.join(argv))

    def lines(self, name: str) -> list[str]:
        """Shell that sets the array `name` once scratch is there."""
        # A text may hold values of several lines, in quotes: nothing is added to any line but the first.
        lines = ["fs_prepare() {", *(f"  {text.rstrip()}" for text in self.prelude), f"  {name}=({self.command})", "}"]
        return lines + (["fs_cleanup() {", *(f"  {line}" for line in self.cleanup), "}"] if self.cleanup else [])


@dataclass(frozen=True, slots=True)
class ArrayScript:
    """An array of workers; `--task N` is appended to the worker's command. `elements[e]` lists element e's tasks."""

    name: str
    token: str
    run_dir: Path
    pack: int
    worker: Program
    elements: tuple[tuple[int, ...], ...]
    profile: Profile

    @property
    def log(self) -> Path:
        """Log file pattern: job name, array job id, element."""
        return self.run_dir / "logs" / "slurm" / "%x-%A_%a.log"

    @property
    def array(self) -> str:
        """The `--array` value, throttled."""
        last = len(self.elements) - 1
        return f"0-{last}%{min(self.profile.array_throttle or last + 1, last + 1)}"

    def body(self) -> list[str]:
        """Shell lines after the #SBATCH header; the last one starts it all."""
        tasks = [" ".join(map(str, tasks)) for tasks in self.elements]
        lines = _common(self.profile, self.run_dir, self.token, self.pack)
        lines.append(f"FS_NODE_FAILURE_S={self.profile.node_failure_s}")
        if excluded := excluded_nodes(self.profile):
            lines.append(f"FS_EXCLUDED={shlex.quote(excluded)}")
        lines += ["# tasks of the pack, by array element", f"FS_TASKS=({_wrapped(tasks)})"]
        lines += ["", host_side(), "fs_arrive", *site_setup(self.profile)]
        return [*lines, *self.worker.lines("FS_WORKER"), "fs_array_main"]


@dataclass(frozen=True, slots=True)
class FinalScript:
    """The job after the arrays. When its program leaves with 76, `next_folder/submit.sh` is run.

    `qos` is the arrays': its limits are what the next arrays have to keep.
    """

    name: str
    token: str
    run_dir: Path
    pack: int
    finish: Program
    next_folder: Path
    profile: Profile
    qos: str | None = None

    @property
    def log(self) -> Path:
        """Log file pattern."""
        return self.run_dir / "logs" / "slurm" / "%x-%j.log"

    def body(self) -> list[str]:
        """Shell lines after the #SBATCH header; the last one starts it all."""
        lines = _common(self.profile, self.run_dir, self.token, self.pack)
        lines += [f"FS_NEXT={shlex.quote(str(self.next_folder))}"]
        if self.qos:
            lines.append(f"FS_QOS={shlex.quote(self.qos)}")
        lines += ["", host_side(), "fs_arrive", *site_setup(self.profile)]
        return [*lines, *self.finish.lines("FS_FINISH"), "fs_final_main"]


def host_side() -> str:
    """The bash functions that every job carries."""
    return (resources.files("foreshock.slurm") / "hostside.sh").read_text(encoding="utf-8").rstrip() + "\n"


def sbatch_flags(script: ArrayScript | FinalScript) -> dict[str, str | int | bool]:
    """All sbatch options of a script by long name, dependency and array excluded."""
    return script.profile.flags() | {"job-name": script.name, "output": str(script.log)}


def render(script: ArrayScript | FinalScript, after: Sequence[int] = ()) -> str:
    """A whole sbatch file; `after` are ids of jobs that have to end first, however they end."""
    flags = sbatch_flags(script)
    if after:
        flags["dependency"] = "afterany:" + ":".join(map(str, after))
    if isinstance(script, ArrayScript):
        flags["array"] = script.array
    what = "array of workers" if isinstance(script, ArrayScript) else "aggregate and analyse"
    return render_job(f"{what} of {script.run_dir}", flags, script.body())


def render_job(what: str, flags: Mapping[str, str | int | bool], body: Sequence[str]) -> str:
    """An sbatch file: what it is, options by long name, shell lines. Raises InputError for a path of several lines."""
    for text in (what, *map(str, flags.values())):
        if len(text.splitlines()) > 1:
            raise InputError(f"a batch script cannot hold the line break in {text!r}", fix="choose another results_dir")
    return _template("job.sbatch.j2").render(
        what=what,
        flags=[flag_text(name, value) for name, value in sorted(flags.items())],
        body="\n".join(body),
    )


def render_submit(arrays: Sequence[str], final: str | None) -> str:
    """`submit.sh`: submits the scripts beside it, each once however often it is run."""
    return _template("submit.sh.j2").render(arrays=list(arrays), final=final)


def flag_text(name: str, value: str | int | bool) -> str:
    """One sbatch option."""
    return f"--{name}" if value is True else f"--{name}={shlex.quote(str(value))}"


def excluded_nodes(profile: Profile) -> str:
    """The profile's own list of nodes to keep away from, in Slurm's notation; empty if there is none."""
    return str(profile.sbatch.get("exclude", ""))


def _common(profile: Profile, run_dir: Path, token: str, pack: int) -> list[str]:
    lines = [f"FS_RUN_DIR={shlex.quote(str(run_dir))}", f"FS_TOKEN={token}", f"FS_PACK={pack}"]
    return [*lines, f"FS_NO_PROGRESS_LIMIT={profile.no_progress_limit}", f"FS_CANARY={int(profile.canary)}"]


def site_setup(profile: Profile) -> list[str]:
    """The site's own lines and variables; they follow the attempt's mark in the log, since they may fail."""
    lines = ["# the site's own setup", *profile.setup, ""] if profile.setup else []
    if profile.scratch:
        lines.append(f'FS_SCRATCH_BASE="{profile.scratch}"')
    lines.append("export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false")
    if profile.offline:
        lines.append("export " + " ".join(f"{name}=1" for name in _OFFLINE))
    return lines


def _wrapped(values: Sequence[str], per_line: int = 20) -> str:
    """Quoted array entries, a few on a line."""
    quoted = [shlex.quote(value) for value in values]
    rows = [" ".join(quoted[i : i + per_line]) for i in range(0, len(quoted), per_line)]
    return rows[0] if len(rows) == 1 else "\n  " + "\n  ".join(rows) + "\n"


def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("foreshock.slurm", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # shell, not HTML; values are quoted by shlex
    )
    return environment.get_template(name)
