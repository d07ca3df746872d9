"""Which image builders this machine has, and how each is spelled.

Builders are driven through their command lines and nothing else; no daemon socket, no Python client. What is not on
PATH is not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum

from foreshock.containers.errors import ImageError
from foreshock.containers.launch import Flavour, runtime_flavour


class Engine(StrEnum):
    """A program that builds or runs images."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"
    APPTAINER = "apptainer"

    @property
    def is_oci(self) -> bool:
        """Builds from Dockerfile (the others build from apptainer.def)."""
        return self is not Engine.APPTAINER


class ImageKind(StrEnum):
    """What to build."""

    OCI = "oci"
    SIF = "sif"


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of this machine for images. A value, so that plans can be tested for machines we do not have.

    `can_drop_network` says that a network namespace of one's own can be made, which buildah needs for an offline build;
    `unusable` what is there and too old to run SIF files.
    """

    engines: frozenset[Engine]
    flavour: Flavour
    is_root: bool
    can_drop_network: bool
    has_subordinate_ids: bool
    unusable: str | None = None

    def choose(self, kind: ImageKind, wanted: Engine | None) -> Engine:
        """The engine for a kind of image. Raises ImageError naming what is missing."""
        valid = [e for e in Engine if e.is_oci == (kind is ImageKind.OCI)]
        if wanted is not None:
            if wanted not in valid:
                raise ImageError(f"{wanted.value} does not build {kind.value} images; valid: {_names(valid)}")
            if wanted not in self.engines:
                raise ImageError(f"{wanted.value} is not installed; found: {_names(self.engines) or 'none'}")
            return wanted
        for engine in valid:
            if engine in self.engines:
                return engine
        raise ImageError(
            f"no builder for {kind.value} images on PATH; install one of: {_names(valid)} "
            "(on Debian: containers/ci/tools.sh)"
            + (f"; {self.unusable}" if self.unusable and kind is ImageKind.SIF else "")
        )


def _names(engines: list[Engine] | frozenset[Engine]) -> str:
    return ", ".join(sorted(engine.value for engine in engines))


def look() -> Machine:
    """Examine this machine."""
    found = {engine for engine in Engine if shutil.which(engine.value)}
    flavour = Flavour.APPTAINER
    unusable = None
    if Engine.APPTAINER not in found and shutil.which("singularity"):
        try:
            flavour = runtime_flavour(_output("singularity", "--version"))
            found.add(Engine.APPTAINER)
        except ImageError as error:  # of no concern to whoever builds or looks at an OCI image
            unusable = str(error)
    if Engine.DOCKER in found and not _succeeds("docker", "version"):
        found.discard(Engine.DOCKER)  # a client without its daemon builds nothing
    return Machine(
        engines=frozenset(found),
        flavour=flavour,
        is_root=os.geteuid() == 0,
        can_drop_network=_succeeds("unshare", "--net", "true"),
        has_subordinate_ids=_has_subordinate_ids(),
        unusable=unusable,
    )


def _has_subordinate_ids() -> bool:
    import getpass
    from pathlib import Path

    try:
        names = {f"{getpass.getuser()}:", f"{os.getuid()}:"}
    except (KeyError, OSError):
        names = {f"{os.getuid()}:"}
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        if not any(line.startswith(name) for line in lines for name in names):
            return False
    return True


def _succeeds(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
