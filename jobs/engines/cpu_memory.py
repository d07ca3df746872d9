"""What the C library does with memory that models on a CPU free and ask for again with every token."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEEP = 1 << 30
_LARGEST_KEPT = 1 << 25  # the most that glibc accepts; larger pieces (weights) go back to the system when freed


def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB of freed memory for this process; False where the C library is another.

    By itself it returns all but a few MB at once. A decoding step frees its key-value caches and asks for a little
    more, so every page of them is made and zeroed anew: a third of the CPU time of 64 continuations of a 135M model.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(*option) for option in ((_M_TRIM_THRESHOLD, _KEEP), (_M_MMAP_THRESHOLD, _LARGEST_KEPT))
    )
