"""Lock files: whole, hashed, in step with pyproject.toml; drift is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from foreshock.containers.lock import (
    LockError,
    LockName,
    drift,
    inputs_sha256,
    lock_path,
    main,
    read_lock,
    requirements,
)
from foreshock.containers.pins import Variant, parse_version, read_pins

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
PINS = read_pins()


@pytest.mark.parametrize("name", list(LockName))
def test_no_lock_has_drifted_from_pyproject(name: LockName) -> None:
    assert drift(name, PYPROJECT, PINS) == []


def test_both_images_get_the_same_version_of_every_package_they_share() -> None:
    cpu, gpu = (read_lock(lock_path(name)).versions for name in (LockName.CPU, LockName.GPU))
    assert {name: gpu[name] for name in cpu} == cpu


def test_the_locks_hold_the_pinned_stack() -> None:
    gpu = read_lock(lock_path(LockName.GPU)).versions
    image = PINS.images[Variant.GPU]
    assert (gpu["torch"], gpu["transformers"], gpu["vllm"]) == (PINS.torch, PINS.transformers, image.vllm)
    compilers = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-nvrtc", "cuda-bindings", "cuda-python", "cuda-toolkit")
    assert {gpu[name].rpartition(".")[0][:4] for name in compilers} == {image.cuda}


def test_the_cpu_lock_accepts_only_cpu_builds_of_torch_and_no_cuda_package() -> None:
    text = lock_path(LockName.CPU).read_text(encoding="utf-8")
    block = text[text.index("\ntorch==") :]
    assert block.count("--hash=sha256:") == len(PINS.cpu_torch.sha256)
    assert all(digest in block for digest in PINS.cpu_torch.sha256)
    assert not [
        name for name in read_lock(lock_path(LockName.CPU)).versions if name.startswith(("nvidia", "cuda", "triton"))
    ]


def test_the_test_lock_repeats_nothing_of_the_cpu_lock() -> None:
    cpu, test = (read_lock(lock_path(name)).versions for name in (LockName.CPU, LockName.TEST))
    assert not set(cpu) & set(test)
    assert "pytest" in test


def test_a_changed_requirement_is_named_with_the_command_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "pyproject.toml"
    text = PYPROJECT.read_text(encoding="utf-8")
    changed.write_text(text.replace('"scipy>=1.12"', '"scipy>=99"'), encoding="utf-8")
    assert main(["--check", "--pyproject", str(changed)]) == 1
    said = capsys.readouterr().out
    have = read_lock(lock_path(LockName.CPU)).versions["scipy"]
    assert f"cpu.txt has scipy {have}, pyproject.toml requires >=99" in said
    assert "remake the locks with: python -m foreshock.containers.lock" in said


def test_a_new_requirement_is_missed_and_a_comment_is_not(tmp_path: Path) -> None:
    changed = tmp_path / "pyproject.toml"
    text = PYPROJECT.read_text(encoding="utf-8")
    changed.write_text("# a remark\n" + text, encoding="utf-8")
    assert drift(LockName.CPU, changed, PINS) == []
    changed.write_text(text.replace("dependencies = [", 'dependencies = [\n  "left-pad-py>=1",', 1), encoding="utf-8")
    assert "cpu.txt lacks left-pad-py, which pyproject.toml requires" in drift(LockName.CPU, changed, PINS)


def test_a_changed_pin_is_drift(tmp_path: Path) -> None:
    for pins in (replace(PINS, torch="2.14.0"), replace(PINS, uv="0.1")):
        assert inputs_sha256(LockName.GPU, PYPROJECT, pins) != inputs_sha256(LockName.GPU, PYPROJECT, PINS)


def test_developers_tools_change_only_the_test_lock(tmp_path: Path) -> None:
    changed = tmp_path / "pyproject.toml"
    text = PYPROJECT.read_text(encoding="utf-8").replace("dev = [", 'dev = [\n  "left-pad-py>=1",', 1)
    changed.write_text(text, encoding="utf-8")
    assert [name for name in LockName if drift(name, changed, PINS)] == [LockName.TEST]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numpy==1.0\n", "no hash for numpy"),
        ("numpy>=1.0 \\\n    --hash=sha256:00\n", "'numpy>=1.0 \\\\' is not a pinned package"),
        ("-e .\n", "'-e .' is not a pinned package"),
    ],
)
def test_a_lock_that_does_not_pin_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cpu.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LockError) as caught:
        read_lock(path)
    assert message in str(caught.value)
    assert "python -m foreshock.containers.lock" in str(caught.value)


def test_a_missing_lock_says_how_to_make_it(tmp_path: Path) -> None:
    shutil.copy(lock_path(LockName.CPU), tmp_path / "cpu.txt")
    with pytest.raises(
        LockError, match=r"gpu\.txt does not exist; make it with: python -m foreshock\.containers\.lock"
    ):
        drift(LockName.GPU, PYPROJECT, PINS, tmp_path)


def test_requirements_come_with_the_images_extras_and_never_with_djinn() -> None:
    gpu = requirements(LockName.GPU, PYPROJECT, PINS)
    assert any(text.startswith("vllm==") for text in gpu)
    assert not any("djinn" in text for name in LockName for text in requirements(name, PYPROJECT, PINS))


def test_versions_are_ordered_as_numbers() -> None:
    assert parse_version("580.65.06") < parse_version("580.105.08") < parse_version("590.1")
    with pytest.raises(ValueError, match=r"'R580' is not a dotted version number"):
        parse_version("R580")
