"""Dockerfile, apptainer.def and pins.toml say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foreshock.containers.environment import CACHE_FOLDERS, IMAGE_SETTINGS
from foreshock.containers.pins import Variant, read_pins

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEFINITION = (ROOT / "apptainer.def").read_text(encoding="utf-8")
PINS = read_pins()


def stage(name: str) -> str:
    """The text of a Dockerfile stage, continuation lines joined."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return re.sub(r"\\\n\s*", "", found.group(1))


def section(name: str) -> str:
    """The text of a section of apptainer.def."""
    found = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", DEFINITION, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found.group(1)


def docker_environment(name: str) -> dict[str, str]:
    return {
        key: value
        for line in stage(name).splitlines()
        if line.startswith("ENV ")
        for key, value in re.findall(r"([A-Z_0-9]+)=(\S+)", line)
    }


def steps(text: str) -> list[tuple[str, str]]:
    """(step, variant) of each call of install.sh, in order."""
    return re.findall(r"install\.sh (system|packages|app) (\S+)", text)


@pytest.mark.parametrize("variant", list(Variant))
def test_both_files_run_the_same_steps_in_the_same_order(variant: Variant) -> None:
    prefix = "cuda" if variant is Variant.GPU else "cpu"
    docker = [call for name in ("base", "packages", "app") for call in steps(stage(f"{prefix}-{name}"))]
    apptainer = [(step, variant.value) for step, _ in steps(section("post"))]
    assert docker == apptainer == [("system", variant.value), ("packages", variant.value), ("app", variant.value)]


def test_nothing_is_installed_outside_the_common_script() -> None:
    for text in (DOCKERFILE, section("post")):
        commands = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        assert not re.search(r"\b(pip|apt-get|apt|conda|curl|wget|git) ", commands)


def test_the_base_images_are_the_pinned_ones() -> None:
    defaults = dict(re.findall(r"^ARG (\w+BASE_IMAGE|BASE_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert defaults == {"BASE_IMAGE": PINS.images[Variant.CPU].base, "CUDA_BASE_IMAGE": PINS.images[Variant.GPU].base}
    arguments = dict(re.findall(r"^    (\w+)=(\S*)$", section("arguments"), re.MULTILINE))
    assert arguments["FROM"] == arguments["BASE"] == PINS.images[Variant.CPU].base


@pytest.mark.parametrize("variant", list(Variant))
def test_bases_are_pinned_by_digest(variant: Variant) -> None:
    assert re.search(r"@sha256:[0-9a-f]{64}$", PINS.images[variant].base)


@pytest.mark.parametrize("target", ["cpu", "cuda", "test"])
def test_every_docker_target_sets_the_same_environment_as_the_definition(target: str) -> None:
    docker = docker_environment(target)
    exports = dict(re.findall(r"^    export (\w+)=(.+)$", section("environment"), re.MULTILINE))
    expected = {name: f"$scratch/{folder}" for name, folder in CACHE_FOLDERS.items()} | IMAGE_SETTINGS
    only_definition = {"FORESHOCK_GIT_COMMIT"} if target == "test" else set()
    assert {name: exports[name] for name in expected} == expected
    assert {name: docker[name].replace("/tmp/foreshock-scratch", "$scratch") for name in expected} == expected
    assert docker["PATH"] == exports["PATH"]
    # Apptainer itself sets the user's name and home.
    assert set(docker) - {"USER", "HOME"} == set(exports) - only_definition


def test_labels_have_the_same_names() -> None:
    defined = set(re.findall(r"^    (\S+) ", section("labels"), re.MULTILINE))
    for target in ("cpu", "cuda"):
        labels = {
            name
            for line in stage(target).splitlines()
            if line.startswith("LABEL ")
            for name in re.findall(r"([a-z.0-9]+)=\"", line)
        }
        assert labels == defined


@pytest.mark.parametrize("target", ["cpu", "cuda", "test"])
def test_images_do_not_run_as_root(target: str) -> None:
    assert re.findall(r"^USER (\S+)$", stage(target), re.MULTILINE)[-1] == "1000:1000"


def test_no_file_names_a_package_registry() -> None:
    files = [ROOT / "Dockerfile", ROOT / "apptainer.def", ROOT / ".dockerignore"]
    files += [path for path in (ROOT / "containers").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in files:
        text = path.read_text(encoding="utf-8")
        for address in re.findall(r"https?://([^/\s\"']+)", text):
            assert address == "github.com", f"{path}: {address}"
        assert not re.search(r"pypi\.org|pythonhosted|docker\.io|ghcr\.io|nvcr\.io|debian\.org|ubuntu\.com", text), path
