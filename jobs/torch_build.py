"""What torch is built for, without importing it: that takes two seconds of a core, and plans, reports and workers of
engines that need no torch ask for nothing else."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any


@functools.cache
def torch_build() -> dict[str, Any]:
    """`__version__`, `cuda`, `hip` and what else torch/version.py states; empty without torch."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return {}
    file = Path(torch.origin).with_name("version.py")
    spec = importlib.util.spec_from_file_location("torch_version", file)
    if spec is None or spec.loader is None:
        return {}
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def visible_gpus() -> int:
    """`torch.cuda.device_count()`; torch is imported only where that may be more than 0."""
    if not _may_have_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def gpu_names() -> list[str]:
    """Name of each visible GPU."""
    count = visible_gpus()
    if not count:
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(count)]


def _may_have_gpus() -> bool:
    """Whether torch is built for GPUs and finds the driver's library, which it would ask for them."""
    if "torch" in sys.modules:
        return True
    build = torch_build()
    if build.get("cuda") is None:
        return build.get("hip") is not None
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
