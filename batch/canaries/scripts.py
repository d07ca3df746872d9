"""Canaries as batch scripts: one like a worker, one that meets its time limit, one like the last job."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from foreshock.batch.executors.slurm_scripts import image_program
from foreshock.containers.launch import Bind, quote
from foreshock.slurm.jobscript import Program, host_side, render_job, site_setup
from foreshock.slurm.profile import Profile

NOTICE_S = 20
"""Seconds before the time limit that the second canary asks to be told; its limit is the shortest there is."""
_MINUTES = {"node": 6, "limit": 1, "final": 6}


@dataclass(frozen=True)
class Canary:
    """One small job: `role` is node, limit or final, `name` its name in the queue."""

    role: str
    name: str
    profile: Profile
    folder: Path

    @property
    def path(self) -> Path:
        """The script's file."""
        return self.folder / f"{self.role}.sbatch"

    def script(self) -> str:
        """The whole batch script."""
        flags = self.profile.flags() | {"job-name": self.name, "output": f"{self.folder}/{self.role}.log"}
        flags["time"] = min(_MINUTES[self.role], self.profile.time)
        flags.pop("signal")
        if self.role == "limit":
            flags["signal"] = f"B:USR1@{NOTICE_S}"
        lines = [f"FC_FOLDER={shlex.quote(str(self.folder))}", f"FC_ROLE={self.role}"]
        lines.append(f"FC_STEP={int(self.profile.canary)}")
        body = [*lines, "", host_side(), _functions(), "fc_arrive", *site_setup(self.profile)]
        if self.role != "limit":
            body += _probe(self.profile, self.folder, self.role).lines("FC_PROBE")
        return render_job(f"canary of `foreshock doctor --slurm` ({self.role})", flags, [*body, f"fc_{self.role}_main"])


def canaries(profile: Profile, final: Profile, folder: Path, token: str) -> tuple[Canary, ...]:
    """The three jobs; names begin with what people recognise and end in what is unique."""
    profiles = {"node": profile, "limit": profile, "final": final}
    return tuple(Canary(role, f"foreshock-doctor_fs-{token}-{role}", of, folder) for role, of in profiles.items())


def whole_job(profile: Profile, name: str) -> str:
    """A job that asks for all that the profile asks for, its wall time included; it is never run."""
    flags = profile.flags() | {"job-name": name, "output": "/dev/null"}
    return render_job("asked about, never run", flags, ["true"])


def nested_job(profile: Profile) -> str:
    """What the last canary submits, held, and cancels."""
    flags = {key: value for key, value in profile.flags().items() if key not in ("time", "signal")}
    return render_job("submitted from a node, held, cancelled", flags, ["true"])


def write_files(folder: Path, profile: Profile) -> None:
    """What the canaries need beside their scripts."""
    text = (resources.files("foreshock.batch.canaries") / "on_node.py").read_text(encoding="utf-8")
    (folder / "on_node.py").write_text(text, encoding="utf-8")
    (folder / "nested.sbatch").write_text(nested_job(profile), encoding="utf-8")


def _functions() -> str:
    return (resources.files("foreshock.batch.canaries") / "canary.sh").read_text(encoding="utf-8")


def _probe(profile: Profile, folder: Path, role: str) -> Program:
    """The command of `on_node`, started the way a worker of this profile is."""
    scratch = "${FS_SCRATCH}"
    arguments = (str(folder / "on_node.py"), str(folder), role, scratch, str(profile.gpus))
    if profile.container is None:
        return Program(" ".join(quote(word) for word in (profile.python or sys.executable, *arguments)))
    return image_program(profile, arguments, (Bind(str(folder), writable=True),), {})
