"""Calling sbatch through submitit, with a whole script of our own in place of the one that submitit would make.

submitit files the script under the job's id and calls sbatch. Its pickles, its signals and its waiting are left out:
a pickle that is moved into place after sbatch is lost with a launcher that dies in between, and whether work is done
is asked of the run's store.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from foreshock.slurm.call import TIMEOUT_S, SlurmSilentError, absent, command_error, hidden_variables

_TIMED_OUT = 124  # of timeout(1)


class ScriptExecutor(submitit.SlurmExecutor):
    """Submits the script at a path, under which `scontrol show job` names it; `folder` takes submitit's copies."""

    def __init__(self, folder: Path, script: Path) -> None:
        if shutil.which("sbatch") is None:
            raise absent("sbatch")
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder=folder, python="false")
        self._script = script
        self.said = ""

    @classmethod
    def affinity(cls) -> int:
        """submitit asks for srun, which this does without."""
        return 2

    def submit_script(self) -> str:
        """What sbatch printed. Raises SlurmError if it refused, SlurmSilentError if nobody knows what became of it."""
        told = io.StringIO()
        try:
            with contextlib.redirect_stderr(told):  # submitit prints what sbatch says to standard error
                self._submit_command("")
        except FailedJobError as error:
            done = error.__cause__
            if not isinstance(done, subprocess.CalledProcessError):
                raise SlurmSilentError(f"sbatch ended without an answer: {error}") from None
            if done.returncode == _TIMED_OUT:
                raise SlurmSilentError(f"`sbatch` gave no answer within {TIMEOUT_S} s; is the controller up?") from None
            raise command_error("sbatch", done.returncode, done.stdout or "", done.stderr or "") from None
        return self.said

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return self._script.read_text(encoding="utf-8")

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        """sbatch hands its environment on to the job, so only variables that would be options of its own are hidden."""
        hidden = [f"--unset={name}" for name in hidden_variables()]
        return ["env", *hidden, "timeout", str(TIMEOUT_S), "sbatch", str(self._script)]

    def _get_job_id_from_submission_command(  # type: ignore[override]  # static there, and called on the instance
        self, string: bytes | str
    ) -> str:
        """A name for submitit's copies: the job's id is looked for by its name, as sites wrap what sbatch prints."""
        self.said = string if isinstance(string, str) else string.decode(errors="replace")
        return "submitted"
