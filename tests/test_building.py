"""What builds, tests and installs foreshock: a copy without its links is refused, and narrowed tests have no floor."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

needs_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="setuptools is not installed here"
)


def copy_of_the_sources(folder: Path) -> Path:
    """All that a build reads, links as links."""
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("analysis", "batch", "containers", "jobs", "slurm"):
        (folder / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", folder / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def setup_says(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--name"], cwd=folder, capture_output=True, text=True, check=False
    )


@needs_setuptools
def test_a_whole_copy_can_be_built(tmp_path: Path) -> None:
    done = setup_says(copy_of_the_sources(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, "foreshock"), done.stderr


@needs_setuptools
@pytest.mark.parametrize("way", ["as a zip download without links unpacks it", "gone", "dangling"])
def test_a_copy_that_lost_a_link_is_not_built(tmp_path: Path, way: str) -> None:
    folder = copy_of_the_sources(tmp_path)
    link = folder / "src" / "foreshock" / "batch"
    link.unlink()
    if way.startswith("as a zip"):
        link.write_text("../../batch")
    elif way == "dangling":
        link.symlink_to("../../no-such-folder")
    done = setup_says(folder)
    assert done.returncode != 0
    assert "src/foreshock/batch is not the folder that it should be" in done.stderr
    assert "git clone" in done.stderr


@pytest.mark.skipif(  # an environment that uv made has neither, and tests inside the image have no pip
    importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None,
    reason="pip or setuptools is not installed here",
)
def test_pip_builds_no_wheel_of_it(tmp_path: Path) -> None:
    folder = copy_of_the_sources(tmp_path)
    link = folder / "src" / "foreshock" / "batch"
    link.unlink()
    link.write_text("../../batch")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(tmp_path / "wheels"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "lost its symbolic links" in done.stdout + done.stderr
    assert not list(tmp_path.glob("wheels/*.whl"))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")  # the suite runs inside the image too
@pytest.mark.parametrize(("arguments", "floor"), [((), True), (("PYTEST_ARGS=-k shards",), False)])
def test_the_coverage_floor_is_one_of_whole_runs(arguments: tuple[str, ...], floor: bool) -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTEST_ARGS")}
    done = subprocess.run(
        ["make", "--dry-run", "test", *arguments], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
    )
    assert ("--fail-under" in done.stdout) is floor
    assert ("-k shards" in done.stdout) is not floor
