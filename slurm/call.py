"""Running Slurm's commands, in an environment in which nothing but our own options counts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from foreshock.errors import ForeshockError

_TIMEOUT_S = 60
_OPTIONS = re.compile(r"^(SBATCH|SQUEUE|SACCT|SACCTMGR|SCANCEL|SCONTROL|SINFO|SALLOC|SRUN|SLURMD?)_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_ROOT", "SLURM_HOME", "SLURM_PREFIX"})
"""Where Slurm is and who is asking; every other variable of these names is an option in disguise, or another job's."""


class SlurmError(ForeshockError):
    """A Slurm command failed; the message quotes it."""


class SlurmSilentError(SlurmError):
    """Slurm gave no answer (not installed here, not reachable, too slow): nothing is known, nothing was refused."""


_SILENCE = re.compile(
    r"Unable to contact slurm controller|Connection (refused|timed out)|Socket timed out|Zero Bytes were transmitted"
    r"|Unable to connect|Resource temporarily unavailable|Slurm temporarily unable|backup controller|Unexpected message"
    r"|Communication connection failure|Transport endpoint is not connected|Munge decode failed|Authentication failed",
    re.IGNORECASE,
)


def slurm_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environment` (this process's) without the variables that would add options to Slurm's commands.

    `SQUEUE_STATES` hides queued jobs, `SBATCH_PARTITION` moves new ones, `SLURM_CLUSTERS` asks another cluster. Times
    are UTC and messages English.
    """
    kept = {
        name: value
        for name, value in (os.environ if environment is None else environment).items()
        if name in _KEPT or not _OPTIONS.match(name)
    }
    return kept | {"LC_ALL": "C.UTF-8"}


def run_command(argv: Sequence[str], *, utc: bool = True) -> str:
    """Standard output of a Slurm command.

    Raises SlurmError if it fails, SlurmSilentError if it is absent, hangs, or gets no answer itself. Times in the
    output are UTC unless `utc` is false: sbatch hands its environment on to the job.
    """
    environment = slurm_environment()
    if utc:
        environment["TZ"] = "UTC"
    else:
        environment.pop("LC_ALL")
        if "LC_ALL" in os.environ:
            environment["LC_ALL"] = os.environ["LC_ALL"]
    said = " ".join(argv[:6])
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False, env=environment
        )
    except (FileNotFoundError, PermissionError):
        raise SlurmSilentError(
            f"{argv[0]} is not on PATH: this machine does not talk to a Slurm cluster\n"
            "  -> run on a login node, or `foreshock plan --emit-sbatch DIR` and submit the scripts from one"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmSilentError(f"`{said}` gave no answer within {_TIMEOUT_S} s; is the controller up?") from None
    if done.returncode == 0:
        return done.stdout
    told = _told(done.stderr) or _told(done.stdout) or "no message"
    kind = SlurmSilentError if _SILENCE.search(told) else SlurmError
    raise kind(f"`{said}` failed with exit code {done.returncode}: {told}")


def _told(text: str) -> str:
    """The lines that name an error, else the last one: sites print banners around them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return "; ".join(errors[-2:]) if errors else (lines[-1] if lines else "")
