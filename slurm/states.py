"""States of an array task, as Slurm names them."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a task is in its life. COMPLETED means that its work is whole, not only that a process ended."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    PREEMPTED = "PREEMPTED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen without a new submission."""
        return self not in (JobState.PENDING, JobState.RUNNING)
