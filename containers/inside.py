"""Reading a file of an image through whichever program runs it here."""

from __future__ import annotations

import os
from pathlib import Path

from foreshock.containers.check import compose_run, run_in_image, runtime_failure
from foreshock.containers.engines import Engine, Machine


def read_inside(image: str, path: str, machine: Machine, scratch: Path, engine: Engine | None = None) -> str:
    """The text of a file in an image. Raises ImageError where it cannot be started, or has no such file."""
    run = compose_run(image, ("cat", path), machine, scratch, engine=engine, offline=False)
    done = run_in_image(run, dict(os.environ))
    if done.returncode != 0:
        raise runtime_failure(run, done)
    return done.stdout
