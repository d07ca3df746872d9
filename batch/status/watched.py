"""Whether a watch of a run lives: it holds this lock while it does."""

from __future__ import annotations

from foreshock.jobs.records.layout import RunLayout
from foreshock.slurm.lock import LauncherLock


def watch_lock(layout: RunLayout) -> LauncherLock:
    """Held by the one watch of a run while it lives."""
    return LauncherLock(layout.root / "watch" / "lock")
