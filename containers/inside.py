"""Reading a file of an image through whichever program runs it here."""

from __future__ import annotations

import os
from pathlib import Path

from foreshock.containers.check import compose_run, run_in_image, runtime_failure
from foreshock.containers.engines import Engine, Machine
from foreshock.containers.errors import ImageError

_OCI = (Engine.DOCKER, Engine.PODMAN, Engine.BUILDAH)


def read_inside(image: str, path: str, machine: Machine, scratch: Path, engine: Engine | None = None) -> str:
    """The text of a file in an image. Without an engine an OCI image is asked of each program here, since one that is
    installed need not work. Raises ImageError where none starts it, or it has no such file."""
    is_file = image.endswith(".sif") or image.startswith(("/", ".")) or Path(image).exists()
    choices: list[Engine | None] = [engine]
    if engine is None and not is_file:
        choices = [one for one in _OCI if one in machine.engines] or [None]
    problem = ImageError(f"{path} of {image} could not be read")
    for chosen in choices:
        try:
            run = compose_run(image, ("cat", path), machine, scratch, engine=chosen, offline=False)
            done = run_in_image(run, dict(os.environ))
        except ImageError as error:
            problem = error
            continue
        if done.returncode == 0:
            return done.stdout
        problem = runtime_failure(run, done)
    raise problem
