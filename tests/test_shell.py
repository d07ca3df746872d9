"""Every shell script of the checkout is valid bash and clean under shellcheck (emitted ones: test_jobscript.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("slurm", "containers", "batch", "jobs", "analysis", "tests", "benchmarks", ".ci")


def is_shell(path: Path) -> bool:
    """By its name, or by its first line."""
    if path.suffix in ("", ".sh") and path.is_file():
        with path.open("rb") as file:
            return path.suffix == ".sh" or (file.read(2) == b"#!" and b"bash" in file.readline())
    return False


SCRIPTS = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if is_shell(path))


def test_the_scripts_are_found() -> None:
    names = {path.name for path in SCRIPTS}
    assert {"testbed.sh", "hostside.sh", "install.sh", "apptainer.sh"} <= names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_is_valid_bash_and_clean(script: Path, shellcheck: str) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    argv = [shellcheck, "--external-sources", "--source-path=SCRIPTDIR", "--shell=bash", "--severity=style"]
    checked = subprocess.run([*argv, str(script)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
