"""Generate and check the images' lock files: `python -m foreshock.containers.lock [--check | --upgrade]`.

Both images get the same version of every package they share, so a result found on a laptop comes from the code that
runs on a GPU node. vLLM is the pickiest and the cpu image's Python the older, so the GPU image's requirements are
resolved first for the older Python; that resolution constrains the cpu lock, the cpu lock constrains the gpu and test
locks.

A version that is locked already stays as long as it fits, so that one more dependency changes one line and not the
stack under every result; `--upgrade` takes the newest of everything.

Checking needs no network: every lock's header holds a digest of what it was resolved from (requirements of
pyproject.toml and the pins), and every requirement must accept the version that the lock names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foreshock.containers.errors import ImageError
from foreshock.containers.pins import LOCKS, ImagePins, Pins, Variant, read_pins

COMMAND = "python -m foreshock.containers.lock"
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_INPUTS = re.compile(r"^# inputs: sha256:([0-9a-f]{64})$", re.MULTILINE)


class LockName(StrEnum):
    """One lock file each."""

    GPU = "gpu"
    CPU = "cpu"
    TEST = "test"

    @property
    def variant(self) -> Variant:
        """The image that the lock is installed in; test packages go on top of the cpu image."""
        return Variant.GPU if self is LockName.GPU else Variant.CPU


class LockError(ImageError):
    """A lock cannot be read, made or trusted; the message says what to run."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A parsed lock file: canonical name -> version, name -> number of hashes, digest of its inputs."""

    versions: dict[str, str]
    hashes: dict[str, int]
    inputs_sha256: str | None
    sha256: str


def lock_path(name: LockName, folder: Path = LOCKS) -> Path:
    """Where a lock lies."""
    return folder / f"{name.value}.txt"


def read_lock(path: Path) -> Lock:
    """Parse a lock. Raises LockError for a missing file or a package without a hash."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LockError(f"{path} does not exist; make it with: {COMMAND}") from None
    versions: dict[str, str] = {}
    hashes: dict[str, int] = {}
    current: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _PINNED.match(line):
            current = canonicalize_name(match.group(1))
            versions[current] = match.group(2)
            hashes[current] = 0
        elif "--hash=sha256:" in line and current is not None:
            hashes[current] += 1
        elif line.strip() and not line.lstrip().startswith("#"):
            raise LockError(f"{path}:{number}: {line.strip()!r} is not a pinned package; remake it with: {COMMAND}")
    bare = sorted(name for name, count in hashes.items() if count == 0)
    if bare:
        raise LockError(f"{path}: no hash for {', '.join(bare)}; remake it with: {COMMAND}")
    inputs = _INPUTS.search(text)
    return Lock(versions, hashes, inputs.group(1) if inputs else None, hashlib.sha256(text.encode()).hexdigest())


def requirements(name: LockName, pyproject: Path, pins: Pins) -> tuple[str, ...]:
    """What a lock resolves: pyproject's dependencies and the variant's extras."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    extras = pins.images[name.variant].extras + (pins.test_extras if name is LockName.TEST else ())
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return tuple(wanted)


def inputs_sha256(name: LockName, pyproject: Path, pins: Pins) -> str:
    """Digest of everything that a lock was resolved from; order and comments of pyproject do not matter.

    The GPU image's requirements and constraints count for every lock, because they decide the shared versions.
    """
    wanted = {*requirements(LockName.GPU, pyproject, pins), *requirements(name, pyproject, pins)}
    inputs = {
        "requirements": sorted(str(Requirement(text)) for text in wanted),
        "python": [pins.images[variant].python for variant in Variant],
        "platform": [pins.images[variant].platform for variant in Variant],
        "constraints": sorted(pins.images[Variant.GPU].constraints),
        "common": [pins.torch, pins.transformers],
        "cpu_torch": [pins.cpu_torch.sha256, pins.cpu_torch.requires],
        "uv": pins.uv,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def drift(name: LockName, pyproject: Path, pins: Pins, folder: Path = LOCKS) -> list[str]:
    """What no longer agrees between a lock and its inputs; empty when nothing. One sentence each."""
    lock = read_lock(lock_path(name, folder))
    found = []
    for text in requirements(name, pyproject, pins):
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate(
            {"python_version": pins.images[name.variant].python}
        ):
            continue
        have = lock.versions.get(canonicalize_name(wanted.name))
        if name is LockName.TEST and have is None:
            have = read_lock(lock_path(LockName.CPU, folder)).versions.get(canonicalize_name(wanted.name))
        if have is None:
            found.append(f"{name.value}.txt lacks {wanted.name}, which pyproject.toml requires")
        elif not wanted.specifier.contains(have, prereleases=True):
            found.append(f"{name.value}.txt has {wanted.name} {have}, pyproject.toml requires {wanted.specifier}")
    if lock.inputs_sha256 != inputs_sha256(name, pyproject, pins):
        found.append(f"{name.value}.txt was resolved from other requirements or pins than today's")
    return found


def compile_all(pyproject: Path, pins: Pins, kept: Mapping[LockName, Mapping[str, str]]) -> dict[LockName, str]:
    """Resolve every lock with uv and return the texts. `kept`: versions to stay with where they still fit.

    Raises LockError with the resolver's own words.
    """
    cpu = pins.images[Variant.CPU]
    stay = {name: dict(kept.get(name, {})) for name in LockName}
    wanted = requirements(LockName.GPU, pyproject, pins)
    both = stay[LockName.GPU] | stay[LockName.CPU]
    shared = _resolve("what both images share", wanted, pins, cpu, {}, both, cuda=True)
    texts = {}
    wanted = requirements(LockName.CPU, pyproject, pins)
    body = _resolve("cpu.txt", wanted, pins, cpu, _versions(shared), stay[LockName.CPU], cuda=False)
    below = _versions(body)
    hashes = " \\\n".join(f"    --hash=sha256:{digest}" for digest in pins.cpu_torch.sha256)
    texts[LockName.CPU] = f"{body}\ntorch=={pins.torch} \\\n{hashes}"
    gpu = pins.images[Variant.GPU]
    wanted = requirements(LockName.GPU, pyproject, pins)
    texts[LockName.GPU] = _resolve("gpu.txt", wanted, pins, gpu, below, stay[LockName.GPU], cuda=True)
    wanted = requirements(LockName.TEST, pyproject, pins)
    body = _resolve("test.txt", wanted, pins, cpu, below, stay[LockName.TEST], cuda=False)
    texts[LockName.TEST] = _without(body, set(below))
    return {name: _header(name, pyproject, pins) + text.rstrip() + "\n" for name, text in texts.items()}


def _resolve(
    what: str,
    wanted: tuple[str, ...],
    pins: Pins,
    image: ImagePins,
    versions: Mapping[str, str],
    preferred: Mapping[str, str],
    *,
    cuda: bool,
) -> str:
    """One run of uv; comments removed. `versions` are binding, `preferred` ones taken if they fit.

    Without `cuda`, torch is resolved as the CPU wheel and left out.
    """
    limits = pins.images[Variant.GPU].constraints if cuda else ()
    constraints = [*limits, f"torch=={pins.torch}", f"transformers=={pins.transformers}"]
    constraints += [f"{name}=={version}" for name, version in versions.items()]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "in.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
        (work / "constraints.txt").write_text("\n".join(constraints) + "\n", encoding="utf-8")
        output = work / "out.txt"  # uv stays with what an earlier output names
        output.write_text("".join(f"{name}=={version}\n" for name, version in preferred.items()), encoding="utf-8")
        argv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--generate-hashes"]
        argv += ["--no-emit-index-url", "--only-binary", ":all:", "--no-annotate", "--no-sources"]
        argv += ["--python-version", image.python, "--python-platform", image.platform]
        argv += ["--constraint", str(work / "constraints.txt"), "--output-file", str(output)]
        if cuda:
            argv += ["--no-config"]
        else:
            (work / "uv.toml").write_text(_cpu_torch_metadata(pins), encoding="utf-8")
            argv += ["--config-file", str(work / "uv.toml"), "--no-emit-package", "torch"]
        result = subprocess.run([*argv, str(work / "in.txt")], capture_output=True, text=True, check=False)
        text = output.read_text(encoding="utf-8")
    if result.returncode != 0:
        hint = f" (install it with: pip install uv=={pins.uv})" if "No module named uv" in result.stderr else ""
        raise LockError(f"{what}: uv could not resolve{hint}:\n{result.stderr.strip()}")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _versions(body: str) -> dict[str, str]:
    """Name and version of every pinned line."""
    matches = (_PINNED.match(line) for line in body.splitlines())
    return {canonicalize_name(m.group(1)): m.group(2) for m in matches if m}


def _header(name: LockName, pyproject: Path, pins: Pins) -> str:
    image = pins.images[name.variant]
    return (
        f"# Packages of the {name.value} image, Python {image.python}, {image.platform}. Made by: {COMMAND}\n"
        f"# inputs: sha256:{inputs_sha256(name, pyproject, pins)}\n"
    )


def _cpu_torch_metadata(pins: Pins) -> str:
    """uv configuration that gives the CPU wheel's requirements in place of the index's CUDA ones."""
    requires = ", ".join(json.dumps(text) for text in pins.cpu_torch.requires)
    version = json.dumps(pins.torch)
    return f'[[dependency-metadata]]\nname = "torch"\nversion = {version}\nrequires-dist = [{requires}]\n'


def _without(body: str, names: set[str]) -> str:
    """Drop the blocks of packages that another lock installs already."""
    kept: list[str] = []
    keep = True
    for line in body.splitlines():
        if match := _PINNED.match(line):
            keep = canonicalize_name(match.group(1)) not in names
        if keep:
            kept.append(line)
    return "\n".join(kept)


def _locked() -> dict[LockName, dict[str, str]]:
    """Versions of the locks that are there."""
    return {name: read_lock(lock_path(name)).versions for name in LockName if lock_path(name).is_file()}


def _find_pyproject(given: Path | None) -> Path:
    """The checkout's pyproject.toml: given, or above this file (an editable install is a checkout)."""
    if given is not None:
        return given
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder / "pyproject.toml"
    raise LockError("no pyproject.toml above this package; run from a checkout or give --pyproject FILE")


def main(argv: list[str] | None = None) -> int:
    """Command line. Returns 0, or 1 when a lock has drifted or cannot be made."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Make or check the images' lock files.")
    parser.add_argument("--check", action="store_true", help="compare with pyproject.toml and pins.toml, offline")
    parser.add_argument("--upgrade", action="store_true", help="take the newest version of everything")
    parser.add_argument("--pyproject", type=Path, help="default: the checkout's")
    args = parser.parse_args(argv)
    pins = read_pins()
    try:
        pyproject = _find_pyproject(args.pyproject)
        if args.check:
            found = [line for name in LockName for line in drift(name, pyproject, pins)]
            for line in found:
                print(line)
            if found:
                print(f"remake the locks with: {COMMAND}")
            return 1 if found else 0
        kept = {} if args.upgrade else _locked()
        for name, text in compile_all(pyproject, pins, kept).items():
            lock_path(name).write_text(text, encoding="utf-8")
            lock = read_lock(lock_path(name))
            print(f"{lock_path(name)}: {len(lock.versions)} packages, sha256:{lock.sha256}")
    except LockError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
