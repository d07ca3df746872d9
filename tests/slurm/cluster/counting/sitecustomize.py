"""Counts generated samples: on PYTHONPATH of the workers, notes the seed of every continuation as it is made."""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

_ENGINE = "foreshock.jobs.engines.transformers"


def _count(module: Any) -> None:
    engine = module.TransformersEngine
    generate = engine.generate

    def counted(self: Any, requests: Any, *stop: Any) -> Iterator[Any]:
        seeds = {request.request_id: request.seed for request in requests}
        path = os.path.join(os.environ["COUNT_DIR"], f"{os.getpid()}-{os.environ.get('SLURM_JOB_ID')}")  # noqa: PTH118 - runs in every Python of a job: few imports
        for result in generate(self, requests, *stop):
            with open(path, "a") as log:  # noqa: PTH123 - as above
                log.write(f"{seeds[result.request_id]}\n")
            yield result

    engine.generate = counted


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
