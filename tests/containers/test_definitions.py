"""Dockerfile, apptainer.def and pins.toml say the same."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshock.containers.environment import CACHE_FOLDERS, CUDA_HOME, IMAGE_SETTINGS
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
def test_bases_are_pinned_by_digest_under_their_full_name(variant: Variant) -> None:
    assert re.match(r"docker\.io/\w+/\w+:", PINS.images[variant].base)  # builders know no registry for a short name
    assert re.search(r"@sha256:[0-9a-f]{64}$", PINS.images[variant].base)


ENTER = (ROOT / "containers" / "enter.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["cpu", "cuda", "test"])
def test_every_docker_target_sets_the_same_environment_as_the_definition(target: str) -> None:
    docker = docker_environment(target)
    exports = dict(re.findall(r"^ +(?:if .*then )?export (\w+)=([^;\n]+)", section("environment"), re.MULTILINE))
    caches = {name: f"$scratch/{folder}" for name, folder in CACHE_FOLDERS.items()}
    assert {name: exports.pop(name) for name in caches} == caches
    assert exports.pop("CUDA_HOME") == CUDA_HOME
    assert exports.pop("PATH").replace(f"{CUDA_HOME}/bin:", "") == docker.pop("PATH").replace(f"{CUDA_HOME}/bin:", "")
    assert docker.pop("CUDA_HOME", CUDA_HOME if target != "cuda" else None) == CUDA_HOME
    del docker["USER"]  # Apptainer itself sets it
    assert docker == exports == IMAGE_SETTINGS


def test_the_docker_images_make_a_folder_of_their_own_for_caches(tmp_path: Path) -> None:
    assert dict(re.findall(r'"\$\{(\w+):=\$scratch/([^}]+)\}"', ENTER)) == CACHE_FOLDERS
    for target in ("cpu", "cuda", "test"):
        assert re.search(r'^ENTRYPOINT \["/usr/local/foreshock/app/bin/foreshock-enter"', stage(target), re.MULTILINE)
        assert "/tmp" not in stage(target)
    command = ["sh", str(ROOT / "containers" / "enter.sh"), "sh", "-c", "echo $HF_HOME $TRITON_CACHE_DIR $HOME"]
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "TRITON_CACHE_DIR": "/given"}
    seen = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    (first, given, home), (second, *_) = (done.stdout.split() for done in seen)
    assert first.startswith(f"{tmp_path}/foreshock-")
    assert first != second
    assert given == "/given"
    assert Path(home).is_dir()


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"])
def test_a_callers_python_does_not_reach_into_a_direct_exec(name: str) -> None:
    # Apptainer hands the caller's value on where the definition unsets it, and not where it is set, if to nothing.
    assert f"    export {name}=\n" in section("environment")


@pytest.mark.parametrize(("target", "variant"), [("cpu", Variant.CPU), ("cuda", Variant.GPU)])
def test_licences_are_the_pinned_ones(target: str, variant: Variant) -> None:
    assert f'image.licenses="{PINS.images[variant].licences}"' in stage(target)
    assert f"    LICENCES={PINS.images[Variant.CPU].licences}\n" in section("arguments")


def test_the_epoch_is_the_pinned_one() -> None:
    assert f"    EPOCH={PINS.epoch}\n" in section("arguments")
    assert f"    BUILD_DATE={datetime.fromtimestamp(PINS.epoch, UTC).isoformat()}\n" in section("arguments")
    assert set(re.findall(r"^ARG SOURCE_DATE_EPOCH=(\d+)$", DOCKERFILE, re.MULTILINE)) == {str(PINS.epoch)}


def test_labels_have_the_same_names() -> None:
    defined = set(re.findall(r"^    (\S+) ", section("labels"), re.MULTILINE))
    for target in ("cpu", "cuda"):
        labels = {
            name
            for line in stage(target).splitlines()
            if line.startswith("LABEL ")
            for name in re.findall(r"([a-z.0-9]+)=\"", line)
        }
        assert labels == defined - {"org.label-schema.build-date"}  # Apptainer's own, fixed so that builds agree


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
        assert not re.search(r"pypi\.org|pythonhosted|ghcr\.io|nvcr\.io|debian\.org|ubuntu\.com", text), path
