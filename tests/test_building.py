"""What builds, tests and installs foreshock: a copy without its links is refused, and narrowed tests have no floor."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("analysis", "batch", "containers", "jobs", "slurm")


def copy_of_the_sources(folder: Path) -> Path:
    """All that a build reads, links as links."""
    shutil.copytree(ROOT / "src", folder / "src", symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in LINKED:
        (folder / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", folder / name)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def build_wheel(folder: Path) -> subprocess.CompletedProcess[str]:
    """By the hook that pip and uv call, neither of which need be installed; setuptools is, since torch requires it."""
    backend = tomllib.loads((folder / "pyproject.toml").read_text())["build-system"]["build-backend"]
    hook = f"import {backend} as backend; backend.build_wheel('wheels')"
    return subprocess.run([sys.executable, "-c", hook], cwd=folder, capture_output=True, text=True, check=False)


def test_a_wheel_of_a_whole_copy_holds_every_folder(tmp_path: Path) -> None:
    done = build_wheel(copy_of_the_sources(tmp_path))
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("wheels/foreshock-*.whl")
    assert {f"foreshock/{name}/__init__.py" for name in LINKED} <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("way", ["as a zip download without links unpacks it", "gone", "dangling"])
def test_no_wheel_is_built_of_a_copy_that_lost_a_link(tmp_path: Path, way: str) -> None:
    folder = copy_of_the_sources(tmp_path)
    link = folder / "src" / "foreshock" / "batch"
    link.unlink()
    if way.startswith("as a zip"):
        link.write_text("../../batch")
    elif way == "dangling":
        link.symlink_to("../../no-such-folder")
    done = build_wheel(folder)
    assert done.returncode != 0
    assert "src/foreshock/batch is not the folder that it should be" in done.stderr
    assert "lost its symbolic links" in done.stderr
    assert "git clone" in done.stderr
    assert not list(tmp_path.rglob("*.whl"))


@pytest.mark.checkout
@pytest.mark.parametrize(("arguments", "floor"), [((), True), (("PYTEST_ARGS=-k shards",), False)])
def test_the_coverage_floor_is_one_of_whole_runs(arguments: tuple[str, ...], floor: bool) -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "PYTEST_ARGS")}
    done = subprocess.run(
        ["make", "--dry-run", "test", *arguments], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
    )
    assert ("--fail-under" in done.stdout) is floor
    assert ("-k shards" in done.stdout) is not floor
