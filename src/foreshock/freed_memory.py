"""What the C library does with memory that a process frees and soon asks for again."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As glibc's malloc.h numbers them."""


def keep_freed(most_bytes: int, largest_piece: int) -> bool:
    """Have glibc keep up to `most_bytes` of freed memory for this process, in pieces of up to `largest_piece` bytes.

    By itself it returns all but a few MB, and every page that comes back is made anew. False where it does not heed
    this, or the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    options = ((_M_TRIM_THRESHOLD, most_bytes), (_M_MMAP_THRESHOLD, largest_piece))
    return mallopt is not None and all(mallopt(*option) for option in options)
