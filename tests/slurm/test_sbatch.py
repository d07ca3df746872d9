"""sbatch is called with the whole script, in the user's environment less what would be options, and told apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from foreshock.slurm.call import SlurmError, SlurmSilentError
from foreshock.slurm.sbatch import ScriptExecutor

SCRIPT = "#!/bin/bash\n#SBATCH --job-name=mine\necho 'done'\n"
Wrap = Callable[[str], None]


@pytest.fixture
def wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wrap:
    """Makes a stand-in for sbatch of a shell body."""

    def make(body: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "sbatch").write_text(f"#!/bin/sh\n{body}\n")
        (folder / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return make


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A batch script."""
    path = tmp_path / "night_fs-1.sbatch"
    path.write_text(SCRIPT)
    return path


def test_what_a_site_prints_comes_back_and_the_script_is_ours(wrap: Wrap, script: Path, tmp_path: Path) -> None:
    wrap(f"cp $1 {tmp_path}/got; basename $1 > {tmp_path}/name; echo 'Welcome to the site'; echo 4711")
    assert ScriptExecutor(tmp_path / "kept", script).submit_script() == "Welcome to the site\n4711"
    assert (tmp_path / "got").read_text() == SCRIPT
    assert (tmp_path / "name").read_text().strip() == script.name


def test_submitting_again_into_the_same_folder_works(wrap: Wrap, script: Path, tmp_path: Path) -> None:
    wrap("echo 4711")
    for _ in range(2):
        assert ScriptExecutor(tmp_path / "kept", script).submit_script() == "4711"


def test_a_job_inherits_the_environment_but_for_options(
    wrap: Wrap, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "SBATCH_PARTITION": "x",
        "SLURM_JOB_ID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    wrap("env")
    seen = ScriptExecutor(tmp_path / "kept", script).submit_script().splitlines()
    assert {"TZ=Pacific/Kiritimati", "LC_ALL=C", "SLURM_CONF=/etc/slurm.conf"} <= set(seen)
    assert not [line for line in seen if line.startswith(("SBATCH_", "SLURM_JOB"))]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid account", SlurmError),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", SlurmSilentError),
    ],
)
def test_a_refusal_is_told_from_silence(
    wrap: Wrap, script: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], said: str, kind: type[SlurmError]
) -> None:
    wrap(f"echo '{said}' >&2; exit 1")
    with pytest.raises(SlurmError, match=said.rpartition(": ")[2]) as caught:
        ScriptExecutor(tmp_path / "kept", script).submit_script()
    assert type(caught.value) is kind
    assert capfd.readouterr().err == ""


def test_a_machine_without_slurm_is_said(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmSilentError, match="sbatch is not on PATH"):
        ScriptExecutor(tmp_path / "kept", script)
