"""Where links in models and caches lead: a container sees them, and what they point to only if that is bound."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_SHALLOW = 2
"""Parts of a path, such as / and home, below which a folder is somebody's own: a file in /home is bound by itself."""
_LINKS = 40


def linked_folders(folders: Iterable[Path], bound: Iterable[Path] = ()) -> set[Path]:
    """Folders (or single files) outside of `folders` and `bound` that links in `folders` lead to, step by step.

    A link is followed as it is written and as it resolves, since either path may be the one that a program takes. What
    is bound already, or lies below what is, is left out; so are links to nothing.
    """
    folders = set(folders)
    roots = folders | set(bound)
    found: set[Path] = set()
    queue = [path for folder in folders for path in (folder, *_links(folder))]
    seen: set[Path] = set()
    while queue:
        link = queue.pop()
        if link in seen:
            continue
        seen.add(link)
        for target in _steps(link):
            if not target.exists() or _covered(target, roots | found):
                continue
            place = target if target.is_dir() or len(target.parts) <= _SHALLOW + 1 else target.parent
            found.add(place)
            if place == target:  # of a file's folder only that file is needed
                queue += _links(place)
    return {path for path in found if not _covered(path, found - {path})}


def _links(folder: Path) -> list[Path]:
    links = []
    for top, names, files in os.walk(folder):
        links += [path for name in (*names, *files) if (path := Path(top) / name).is_symlink()]
    return links


def _steps(link: Path) -> list[Path]:
    """Every absolute path on the way from a link to where it ends, the end included."""
    steps = []
    here = link
    for _ in range(_LINKS):
        if not here.is_symlink():
            break
        here = Path(os.path.normpath(here.parent / here.readlink()))
        steps.append(here)
    try:
        steps.append(link.resolve())
    except (OSError, RuntimeError):  # a loop of links leads nowhere
        return []
    return [step for step in steps if step != link]


def _covered(path: Path, roots: Iterable[Path]) -> bool:
    return any(path == root or root in path.parents for root in roots)
