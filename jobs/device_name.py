"""What kind of device a worker computes on, for costs that later runs learn from."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import Any

from foreshock.jobs.engines.base import Engine
from foreshock.jobs.torch_build import visible_gpus

CPU = "cpu"


def device_of(engine: Engine, options: dict[str, Any]) -> str | None:
    """The GPU's name, `cpu`, or None where it cannot be told: a server's, say."""
    if getattr(engine, "name", "") not in ("transformers", "vllm"):
        return None
    if str(options.get("device", "auto")).startswith(CPU):
        return CPU
    return _gpu_name()


@functools.cache
def _gpu_name() -> str | None:
    """From the driver's program: torch would take memory of the GPU for it."""
    if not visible_gpus():
        return CPU
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    argv = [program, "--query-gpu=name", "--format=csv,noheader", *(["--id", first] if first else [])]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.strip().splitlines()), None)
