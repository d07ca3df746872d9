"""Which code and which image this process is."""

from __future__ import annotations

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
    """Commit, branch and whether files differ; nulls outside a repository (an image sets FORESHOCK_GIT_COMMIT)."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": os.environ.get("FORESHOCK_GIT_COMMIT"), "branch": None, "dirty": None}
    return {"commit": commit, "branch": _git("rev-parse", "--abbrev-ref", "HEAD"), "dirty": bool(_git("status", "-s"))}


def short_commit() -> str | None:
    """Seven digits of the commit; None if unknown."""
    commit = git_state()["commit"]
    return commit[:7] if commit else None


def image_digest() -> str | None:
    """Digest of the container image this process runs in, which its launcher passes in; None outside one."""
    return os.environ.get("FORESHOCK_IMAGE_DIGEST")
