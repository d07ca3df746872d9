"""What one submission may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one submission's process; units in the names.

    wall_s is kept by the judge: CPU received plus time asleep, which on a quiet machine is wall clock (watch.py).
    threads: beside the first, kept by the judge too. Everything else is kept by the kernel. cpu_s is above wall_s only
    to end a process whose judge died or is stopped. temporary_bytes bounds the private /tmp of the full tier;
    file_bytes any single file.
    """

    wall_s: float = 10.0
    cpu_s: int = 20
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    temporary_bytes: int = 32 << 20
    temporary_inodes: int = 1024
    open_files: int = 64
    threads: int = 64
    result_bytes: int = 16 << 20
