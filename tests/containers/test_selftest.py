"""The self-test finds what is wrong with an image; run here on made-up images, and for real in test_real_images.py."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foreshock import image_contents
from foreshock.containers import selftest
from foreshock.containers.lock import LockName, lock_path, read_lock
from foreshock.containers.pins import PINS, read_pins
from foreshock.containers.selftest import (
    Gpu,
    Status,
    Subject,
    check_contents,
    check_djinn,
    check_driver,
    check_python,
    check_scratch,
    check_slurm,
    check_versions,
    check_vllm,
    compare_versions,
    driver_version,
    judge_driver,
    judge_sandbox,
    load_subject,
    run_checks,
)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """The record of a cpu image, as install.sh writes it."""
    folder = tmp_path / "image"
    folder.mkdir()
    shutil.copy(PINS, folder / "pins.toml")
    shutil.copy(lock_path(LockName.CPU), folder / "cpu.txt")
    shutil.copy(lock_path(LockName.GPU), folder / "gpu.txt")
    write_record(folder, "cpu")
    return folder


def write_record(folder: Path, variant: str, **changes: object) -> None:
    lock = hashlib.sha256((folder / f"{variant}.txt").read_bytes()).hexdigest()
    record = {"variant": variant, "git_commit": "abc", "base": "b", "djinn_commit": None, "lock_sha256": lock}
    (folder / "image.json").write_text(json.dumps(record | changes))


def subject(folder: Path, gpu: Gpu = Gpu.AUTO) -> Subject:
    return load_subject(folder, folder.parent, gpu)


def test_versions_are_compared_with_the_lock_both_ways() -> None:
    locked = {"numpy": "2.3.5", "scipy": "1.17.1", "torch": "2.13.0"}
    assert compare_versions(locked, locked | {"foreshock": "0.1.0"}) == []
    assert compare_versions(locked, {"numpy": "2.4.0", "torch": "2.13.0", "pip": "23.0"}) == [
        "numpy 2.4.0, locked 2.3.5",
        "scipy missing, locked 1.17.1",
        "not in the lock: pip",
    ]


def test_an_environment_other_than_the_locks_fails_by_name(image_folder: Path) -> None:
    # This test's own environment has pytest, which the cpu image must not have.
    result = check_versions(subject(image_folder))
    assert result.status is Status.FAILED
    assert "not in the lock:" in result.detail
    assert "pytest" in result.detail


def test_a_lock_swapped_after_the_build_fails(image_folder: Path) -> None:
    write_record(image_folder, "cpu", lock_sha256="0" * 64)
    result = check_versions(subject(image_folder))
    assert result.status is Status.FAILED
    assert "not the one it was built from" in result.detail


def test_the_wrong_python_fails(image_folder: Path) -> None:
    pins = image_folder / "pins.toml"
    pins.write_text(pins.read_text().replace('python = "3.11"', 'python = "3.99"'))
    assert check_python(subject(image_folder)).status is Status.FAILED


@pytest.mark.parametrize(
    ("version", "status"),
    [("580.65.06", Status.OK), ("580.105.08", Status.OK), ("590.10", Status.OK), ("575.57.08", Status.FAILED)],
)
def test_an_old_driver_is_told_with_the_floor(version: str, status: Status) -> None:
    result = judge_driver(version, "580.65.06", "13.0")
    assert result.status is status
    if status is Status.FAILED:
        assert "575.57.08 is older than 580.65.06, which CUDA 13.0 needs; ask for nodes" in result.detail


def test_an_old_driver_may_do_with_forward_compatibility() -> None:
    assert judge_driver("550.54.15", "580.65.06", "13.0", compatible=True).status is Status.OK


@pytest.mark.parametrize(
    ("state", "consent", "status"),
    [
        ("ok", False, Status.OK),
        ("weak", False, Status.FAILED),
        ("weak", True, Status.OK),
        ("missing", True, Status.FAILED),
    ],
)
def test_a_sandbox_that_runs_refuse_fails_without_consent(state: str, consent: bool, status: Status) -> None:
    check = judge_sandbox({"state": state, "found": "tier x", "fix": "ask"}, allow_weak=consent)
    assert check.status is status
    assert ("allow_weak_sandbox: true" in check.detail) == (state == "weak" and not consent)


def test_a_file_that_is_not_as_it_was_built_fails_by_name(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "tool").write_text("one")
    (root / "usr" / "bin" / "link").symlink_to("tool")
    image_contents.write(image_folder, root)
    monkeypatch.setattr(selftest, "differences", lambda folder: image_contents.differences(folder, root))
    here = subject(image_folder)
    assert check_contents(here).status is Status.OK
    (root / "usr" / "bin" / "extra").write_text("a runtime mounts its own files")
    assert check_contents(here).status is Status.OK
    (root / "usr" / "bin" / "tool").write_text("two")
    (root / "usr" / "bin" / "link").unlink()
    result = check_contents(here)
    assert result.status is Status.FAILED
    assert "/usr/bin/link missing, /usr/bin/tool changed" in result.detail


def test_the_drivers_version_is_the_kernel_modules(tmp_path: Path) -> None:
    source = tmp_path / "version"
    assert driver_version(source) is None
    source.write_text("580.95.05\n")
    assert driver_version(source) == "580.95.05"


@pytest.mark.parametrize(("gpu", "status"), [(Gpu.AUTO, Status.SKIPPED), (Gpu.REQUIRED, Status.FAILED)])
def test_a_gpu_image_without_driver_fails_only_when_one_was_asked_for(
    image_folder: Path, gpu: Gpu, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(image_folder, "gpu")
    monkeypatch.setattr("foreshock.containers.selftest.driver_version", lambda: None)
    result = check_driver(subject(image_folder, gpu))
    assert result.status is status
    assert "--nv" in result.detail


def test_vllm_and_djinn_do_not_apply_to_an_image_without_them(image_folder: Path) -> None:
    assert check_vllm(subject(image_folder)).status is Status.SKIPPED
    assert check_djinn(subject(image_folder)).status is Status.SKIPPED


def test_djinn_that_was_recorded_but_is_not_there_fails(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(image_folder, "cpu", djinn_commit="8455a6a")
    monkeypatch.setattr(selftest, "_python", lambda *_a, **_k: subprocess.CompletedProcess([], 1, "", "no djinn"))
    result = check_djinn(subject(image_folder))
    assert (result.status, result.detail) == (Status.FAILED, "no djinn")


def test_a_slurm_command_inside_fails(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert check_slurm(subject(image_folder)).status is Status.OK
    (tools / "scontrol").write_text("#!/bin/sh\n")
    (tools / "scontrol").chmod(0o755)
    result = check_slurm(subject(image_folder))
    assert result.status is Status.FAILED
    assert "scontrol found inside" in result.detail


def test_scratch_must_take_files_and_hold_every_cache(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in selftest.CACHE_FOLDERS.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert check_scratch(subject(image_folder)).status is Status.OK
    monkeypatch.delenv("TRITON_CACHE_DIR")
    assert "TRITON_CACHE_DIR is not set" in check_scratch(subject(image_folder)).detail
    gone = load_subject(image_folder, tmp_path / "gone", Gpu.AUTO)
    result = check_scratch(gone)
    assert result.status is Status.FAILED
    assert "bind a writable FORESHOCK_SCRATCH" in result.detail


def test_a_check_that_breaks_is_a_failure_and_the_others_run(image_folder: Path) -> None:
    def check_broken(_subject: Subject) -> selftest.Check:
        raise OSError("disk on fire")

    results = run_checks(subject(image_folder), [check_broken, check_slurm])
    assert (results[0].name, results[0].status) == ("broken", Status.FAILED)
    assert "OSError: disk on fire" in results[0].detail
    assert len(results) == 2


def test_the_offline_check_catches_whoever_reaches_for_the_network() -> None:
    prelude = selftest._OFFLINE[: selftest._OFFLINE.index("import torch")]
    for attempt in ("socket.create_connection(('192.0.2.1', 80), 1)", "socket.getaddrinfo('example.invalid', 80)"):
        done = subprocess.run([sys.executable, "-c", prelude + attempt], capture_output=True, text=True, check=False)
        assert done.returncode == 9
        assert "tried to reach" in done.stderr
    harmless = subprocess.run([sys.executable, "-c", prelude + "socket.socketpair()"], capture_output=True, check=False)
    assert harmless.returncode == 0


def test_outside_an_image_it_says_so() -> None:
    argv = [sys.executable, "-m", "foreshock.containers.selftest", "--image-folder", "/nowhere"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not inside a foreshock image; run foreshock image check" in done.stderr


def test_the_pins_in_an_image_are_read_by_the_same_code(image_folder: Path) -> None:
    assert read_pins(image_folder / "pins.toml") == read_pins()
    assert read_lock(image_folder / "cpu.txt").versions["torch"] == read_pins().torch
