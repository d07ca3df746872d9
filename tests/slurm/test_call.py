"""What Slurm's commands get to see, and what their failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.slurm.call import SlurmError, SlurmSilentError, run_command, slurm_environment

EXPORTED = {
    "SBATCH_PARTITION": "elsewhere",
    "SBATCH_NO_REQUEUE": "1",
    "SQUEUE_STATES": "COMPLETED",
    "SQUEUE_FORMAT": "%u",
    "SACCT_FORMAT": "User",
    "SCANCEL_INTERACTIVE": "1",
    "SLURM_CLUSTERS": "other",
    "SLURM_TIME_FORMAT": "relative",
    "SLURM_CPUS_PER_TASK": "3",
}


def test_options_that_a_shell_exports_reach_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in EXPORTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    seen = run_command(["env"])
    assert not [name for name in EXPORTED if f"{name}=" in seen]
    assert "SLURM_CONF=/etc/slurm.conf" in seen
    assert "TZ=UTC" in seen


def test_other_variables_stay() -> None:
    assert slurm_environment({"HOME": "/h", "SLURMY": "x", "SBATCH_ACCOUNT": "y"})["SLURMY"] == "x"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", SlurmSilentError),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", SlurmSilentError),
        ("sbatch: error: Batch job submission failed: Invalid account", SlurmError),
    ],
)
def test_no_answer_is_told_from_a_refusal(said: str, kind: type[SlurmError]) -> None:
    with pytest.raises(SlurmError, match="failed with exit code 1") as caught:
        run_command(["sh", "-c", f"echo '{said}' >&2; echo '*** support: call 4711 ***' >&2; exit 1"])
    assert type(caught.value) is kind
    assert said in str(caught.value)


def test_a_program_that_is_not_there_is_silence(tmp_path: Path) -> None:
    with pytest.raises(SlurmSilentError, match="does not talk to a Slurm cluster"):
        run_command([str(tmp_path / "squeue")])
