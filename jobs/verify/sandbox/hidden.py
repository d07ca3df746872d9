"""Which paths a submission may read: the standard library and shared libraries, and nothing else.

Third-party packages are hidden, foreshock's own among them, because the built-in problems' expected results can be
computed from its sources.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence

_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})


def standard_library() -> tuple[str, ...]:
    """Folders of the running interpreter's standard library and its shared libraries."""
    found = [os.path.dirname(os.path.realpath(os.__file__))]
    found += [os.path.realpath(entry) for entry in sys.path if entry.endswith("lib-dynload")]
    library = os.path.join(sys.base_prefix, "lib")
    if os.path.realpath(library) not in {"/usr/lib", "/lib"} and os.path.isdir(library):
        found.append(os.path.realpath(library))
    return tuple(dict.fromkeys(found))


def readable() -> tuple[str, ...]:
    """Every folder and file a submission may read, without those inside another of them."""
    wanted = [path for path in (*_SYSTEM, *standard_library()) if os.path.exists(path)]
    return tuple(
        path for path in dict.fromkeys(wanted) if not any(is_below(path, other) for other in wanted if other != path)
    )


def is_below(path: str, folder: str) -> bool:
    """Whether `path` lies in `folder`; links are not followed."""
    return path.startswith(folder.rstrip("/") + "/")


def package_folders(roots: Iterable[str]) -> tuple[str, ...]:
    """site-packages and dist-packages folders at the usual depth beneath `roots`."""
    found = []
    for root in roots:
        candidates = [root] + [
            entry.path for entry in _entries(root) if entry.name.startswith("python") and entry.is_dir()
        ]
        for folder in candidates:
            found += [entry.path for entry in _entries(folder) if entry.name in _PACKAGE_FOLDERS and entry.is_dir()]
    return tuple(dict.fromkeys(found))


def without(roots: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """`roots`, with each folder that holds a hidden one replaced by its other entries (Landlock cannot subtract)."""
    out: list[str] = []
    for root in roots:
        real = os.path.realpath(root)
        if real in hidden or any(is_below(real, folder) for folder in hidden):
            continue
        if any(is_below(folder, real) for folder in hidden):
            out += without([entry.path for entry in _entries(real)], hidden)
        else:
            out.append(root)
    return out


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
