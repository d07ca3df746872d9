"""Errors that speak of the machine (memory, a broken device), never of the model or the checkpoint."""

from __future__ import annotations

import re

_SIGNS = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|DefaultCPUAllocator"
    r"|CUDA error|CUDNN_STATUS|CUBLAS_STATUS|device-side assert|HIP error",
    re.IGNORECASE,
)


def is_exhaustion(error: BaseException) -> bool:
    """Whether an exception, or what caused it, is the machine's: nothing about the model may be concluded from it."""
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        if isinstance(now, MemoryError) or type(now).__name__ == "OutOfMemoryError" or _SIGNS.search(str(now)):
            return True
        now = now.__cause__ or now.__context__
    return False
