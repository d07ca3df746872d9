"""Run the self-test inside an image, through whichever program runs images here.

The test runs without network wherever the runtime can take it away, because an image that needs the network shows it
on the compute node and not before.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from foreshock.containers.archives import archive_path
from foreshock.containers.compose import compose
from foreshock.containers.engines import Engine, Machine
from foreshock.containers.errors import ImageError, explain
from foreshock.containers.launch import ExecRequest
from foreshock.containers.selftest import Gpu

ENTER = "/usr/local/foreshock/app/bin/foreshock-enter"


@dataclass(frozen=True, slots=True)
class Run:
    """A command inside an image: folders to make, variables to add, arguments, and what to run afterwards."""

    folders: tuple[str, ...]
    environment: dict[str, str]
    argv: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()


def selftest_command(gpu: Gpu, *, as_json: bool, allow_weak_sandbox: bool = False) -> tuple[str, ...]:
    """The self-test's own arguments."""
    flags = (("--json",) if as_json else ()) + (("--allow-weak-sandbox",) if allow_weak_sandbox else ())
    return ("python", "-m", "foreshock.containers.selftest", "--gpu", gpu.value, *flags)


def compose_run(
    image: str,
    command: tuple[str, ...],
    machine: Machine,
    scratch: Path,
    *,
    engine: Engine | None = None,
    gpus: bool = False,
    unpack: bool = False,
    offline: bool = True,
) -> Run:
    """The command line that runs `command` in an image. A path is a SIF or sandbox, a name an OCI image."""
    path = Path(image)
    if not image:
        raise ImageError("no image is named; give a .sif file, a sandbox folder, or the name of an OCI image")
    if (archive := archive_path(image)) is not None:
        raise ImageError(
            f"{image} is an archive, which nothing starts; load it (podman load -i {archive}) and give its name, or "
            f"make a SIF of it: apptainer build IMAGE.sif docker-archive:{archive} (or oci-archive:)"
        )
    is_file = path.exists() or image.endswith(".sif") or image.startswith(("/", "."))
    if engine is None:
        engine = Engine.APPTAINER if is_file else _oci_engine(machine)
    if engine is Engine.APPTAINER:
        if not path.exists():
            raise ImageError(f"no image at {image}; build one: foreshock image build --output {image}")
        if machine.unusable is not None:
            raise ImageError(machine.unusable)
        if path.is_dir() and not any((path / name).exists() for name in ("usr", "bin")):
            raise ImageError(f"{image} is a folder, but no root filesystem; give a sandbox folder or a .sif file")
        request = ExecRequest(
            str(path.absolute()),
            command,
            str(scratch),
            gpus=int(gpus),
            unpack=unpack,
            runtime=machine.flavour.value,
            network=not offline,
        )
        launch = compose(request)
        return Run(launch.folders, dict(launch.environment), launch.argv)
    command = (ENTER, *command)  # the image's entry point: caches in a folder of the container's own
    if engine is Engine.BUILDAH:
        return _buildah_run(image, command, machine)
    gpu_options = ("--gpus", "all") if engine is Engine.DOCKER else ("--device", "nvidia.com/gpu=all")
    network = ("--network", "none") if offline else ()
    argv = (engine.value, "run", "--rm", "--pull=never", *network, *(gpu_options if gpus else ()))
    return Run((), {}, (*argv, "--entrypoint", command[0], image, *command[1:]))


def _buildah_run(image: str, command: tuple[str, ...], machine: Machine) -> Run:
    """buildah runs a command in a working container made from the image; with chroot it needs no OCI runtime."""
    holder = f"foreshock-check-{os.getpid()}"
    remove = ("buildah", "rm", holder)
    isolated = ("unshare", "--net") if machine.can_drop_network else ()
    argv = (*isolated, "buildah", "run", "--isolation", "chroot", holder, "--", *command)
    return Run(
        (), {}, argv, before=(remove, ("buildah", "from", "--pull=never", "--name", holder, image)), after=(remove,)
    )


def _oci_engine(machine: Machine) -> Engine:
    for engine in (Engine.DOCKER, Engine.PODMAN, Engine.BUILDAH):
        if engine in machine.engines:
            return engine
    raise ImageError("docker, podman and buildah are all missing; give a .sif file, or install one of them")


def run_in_image(run: Run, environment: dict[str, str], *, capture: bool = True) -> subprocess.CompletedProcess[str]:
    """Carry a run out. Exit codes and output are the command's own; raises ImageError if the runtime itself fails."""
    for folder in run.folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for index, argv in enumerate(run.before):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0 and index == len(run.before) - 1:
            raise ImageError(_advice(argv, done.stderr))
    try:
        return subprocess.run(
            run.argv, env={**environment, **run.environment}, capture_output=capture, text=True, check=False
        )
    except OSError as error:
        raise ImageError(f"{run.argv[0]}: {error.strerror}; install it or give another --engine") from None
    finally:
        for argv in run.after:
            subprocess.run(argv, capture_output=True, check=False)


def runtime_failure(run: Run, done: subprocess.CompletedProcess[str]) -> ImageError:
    """The error for a run that gave no self-test output."""
    return ImageError(_advice(run.argv, f"{done.stdout or ''}\n{done.stderr or ''}"))


def _advice(argv: tuple[str, ...], output: str) -> str:
    tail = "\n".join(f"  | {line}" for line in output.strip().splitlines()[-8:])
    meaning = explain(output)
    return f"{' '.join(argv[:3])} ... failed:\n{tail}" + (f"\n{meaning[0].upper()}{meaning[1:]}." if meaning else "")
