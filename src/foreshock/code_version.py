"""Which code this process is: asked of git, of the image's record, and of the source files themselves."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreshock.image_record import commit_of, own_record, runs_own_code

GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false")
"""git for a checkout that may be somebody else's, as groups share them: its code runs here, its hooks need not."""


def _git(*arguments: str) -> str | None:
    argv = [*GIT, "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_state() -> dict[str, Any]:
    """Commit, branch and whether files differ; nulls outside a repository; of an image's own code, its record says it.

    Code that lies in somebody else's repository without being part of it (an environment in a project's folder) is
    outside: that commit says nothing of it.
    """
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = _git("rev-parse", "HEAD") if tracked else None
    if commit is None:
        said = (commit_of(own_record()) if runs_own_code() else None) or ""
        return {"commit": said.partition("+")[0] or None, "branch": None, "dirty": "+" in said if said else None}
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


@functools.cache
def code_sha256() -> str:
    """Digest of foreshock's source files as they lie where this process imports them: names and contents.

    A checkout, a wheel and an image of one commit have the same; a commit that changes no code keeps it.
    """
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for name in sorted(_sources(root)):
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{content}  {name}\n".encode())
    return digest.hexdigest()


def _sources(root: Path, below: str = "") -> Iterator[str]:
    """Modules of the package: folders without __init__.py are not installed."""
    for entry in (root / below).iterdir():  # follows the checkout's links to folders, which a glob would not
        name = f"{below}{entry.name}"
        if entry.suffix == ".py":
            yield name
        elif (entry / "__init__.py").is_file():
            yield from _sources(root, f"{name}/")
