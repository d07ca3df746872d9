"""Running Slurm's commands, in an environment in which nothing but our own options counts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from foreshock.errors import ForeshockError

TIMEOUT_S = 60
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


def hidden_variables() -> list[str]:
    """Names of this process's variables that would be options of Slurm's commands."""
    return sorted(os.environ.keys() - slurm_environment().keys())


def run_command(argv: Sequence[str]) -> str:
    """Standard output of a Slurm command that asks or cancels; times in it are UTC.

    Raises SlurmError if it fails, SlurmSilentError if it is absent, hangs, or gets no answer itself.
    """
    environment = slurm_environment() | {"TZ": "UTC"}
    said = " ".join(argv[:6])
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False, env=environment
        )
    except (FileNotFoundError, PermissionError):
        raise absent(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise SlurmSilentError(f"`{said}` gave no answer within {TIMEOUT_S} s; is the controller up?") from None
    if done.returncode == 0:
        return done.stdout
    raise command_error(said, done.returncode, done.stdout, done.stderr)


def absent(program: str) -> SlurmSilentError:
    """The error for a machine without Slurm's commands."""
    return SlurmSilentError(
        f"{program} is not on PATH: this machine does not talk to a Slurm cluster\n"
        "  -> run on a login node, or `foreshock plan --emit-sbatch DIR` and submit the scripts from one"
    )


def command_error(said: str, code: int, out: str, err: str) -> SlurmError:
    """The error of a command that failed: SlurmSilentError where it got no answer itself."""
    told = _told(err) or _told(out) or "no message"
    kind = SlurmSilentError if _SILENCE.search(told) else SlurmError
    return kind(f"`{said}` failed with exit code {code}: {told}")


def _told(text: str) -> str:
    """The lines that name an error, else the last one: sites print banners around them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return "; ".join(errors[-2:]) if errors else (lines[-1] if lines else "")
