"""Which code and which image this process is."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state() -> dict[str, Any]:
    """Commit, branch and whether files differ; nulls outside a repository (an image sets FORESHOCK_GIT_COMMIT).

    Code that lies in somebody else's repository without being part of it (an environment in a project's folder) is
    outside: that commit says nothing of it.
    """
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = _git("rev-parse", "HEAD") if tracked else None
    if commit is None:
        return {"commit": os.environ.get("FORESHOCK_GIT_COMMIT"), "branch": None, "dirty": None}
    return {"commit": commit, "branch": _git("rev-parse", "--abbrev-ref", "HEAD"), "dirty": bool(_git("status", "-s"))}


@functools.cache
def running_commit() -> str | None:
    """The commit that this process runs, as it was first asked for; `+changed` where files differ from it."""
    state = git_state()
    return f"{state['commit']}+changed" if state["commit"] and state["dirty"] else state["commit"]


def short_commit() -> str | None:
    """Seven digits of the commit; None if unknown."""
    commit = git_state()["commit"]
    return commit[:7] if commit else None


def image_digest() -> str | None:
    """Digest of the container image this process runs in, which its launcher passes in; None outside one."""
    return os.environ.get("FORESHOCK_IMAGE_DIGEST")
