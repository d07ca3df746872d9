"""Counts generated samples: on PYTHONPATH of the workers, notes the seed of every continuation as it is made.

A file for each process: a line `TIME SEED` for each continuation, and `TIME left` if the process left by itself.
"""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

_ENGINE = "foreshock.jobs.engines.transformers"


def _count(module: Any) -> None:
    engine = module.TransformersEngine
    generate = engine.generate

    path = os.path.join(os.environ["COUNT_DIR"], f"{os.getpid()}-{os.environ.get('SLURM_JOB_ID')}")  # noqa: PTH118 - runs in every Python of a job: few imports

    def note(what: object) -> None:
        with open(path, "a") as log:  # noqa: PTH123 - as above
            log.write(f"{time.time():.3f} {what}\n")

    def counted(self: Any, requests: Any, *stop: Any) -> Iterator[Any]:
        seeds = {request.request_id: request.seed for request in requests}
        for result in generate(self, requests, *stop):
            note(seeds[result.request_id])
            time.sleep(float(os.environ.get("COUNT_PACE", "0")))
            yield result

    engine.generate = counted
    atexit.register(note, "left")


class _Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _ENGINE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            _count(module)

        loader.exec_module = exec_module
        return spec


if "COUNT_DIR" in os.environ:
    sys.meta_path.insert(0, _Watch())
