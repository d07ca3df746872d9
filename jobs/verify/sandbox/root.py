"""The root file system of the full tier: a tmpfs with read-only views of the libraries, and nothing else."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence

from foreshock.jobs.verify.sandbox import kernel
from foreshock.jobs.verify.sandbox.hidden import is_below

_KEPT_FLAGS = {
    os.ST_NOSUID: kernel.MS_NOSUID,
    os.ST_NODEV: kernel.MS_NODEV,
    os.ST_NOEXEC: kernel.MS_NOEXEC,
    os.ST_NOATIME: kernel.MS_NOATIME,
    os.ST_NODIRATIME: kernel.MS_NODIRATIME,
    os.ST_RELATIME: kernel.MS_RELATIME,
}
"""Mount flags that a namespace inherits locked: a remount must repeat them."""


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def build_and_enter(base: str, paths: Sequence[str], hidden: Sequence[str], devices: Iterable[str]) -> None:
    """Make a tmpfs over `base` the root of this mount namespace.

    paths: shown read-only at their own places; links are kept as links. hidden: folders that appear empty.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=0755")
    for path in paths:
        _show(base, path)
    _remount_read_only(base)
    for folder in hidden:
        if any(folder == path or is_below(folder, path) for path in paths) and os.path.isdir(base + folder):
            kernel.mount(
                "tmpfs", base + folder, "tmpfs", kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV, "size=4k"
            )
    for device in devices:
        if os.path.exists(device):
            _touch(base + device)
            kernel.mount(device, base + device, None, kernel.MS_BIND)
            # Read-only for the node: what is written goes to the device. Its mode and times are the host's.
            _remount_one_read_only(base + device)
    for folder in ("/tmp", "/proc", "/etc", "/dev"):
        os.makedirs(base + folder, exist_ok=True)
    os.chdir(base)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
    kernel.mount(
        "none", "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    )


def _show(base: str, path: str) -> None:
    target = base + path
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        _touch(target)
    kernel.mount(path, target, None, kernel.MS_BIND | kernel.MS_REC)


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _remount_read_only(base: str) -> None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as handle:
        points = [line.split(" ")[4].encode().decode("unicode_escape") for line in handle]
    for point in points:
        if is_below(point, base):
            _remount_one_read_only(point)


def _remount_one_read_only(point: str) -> None:
    have = os.statvfs(point).f_flag
    keep = sum(flag for bit, flag in _KEPT_FLAGS.items() if have & bit)
    kernel.mount("none", point, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | keep)


def empty_folder(folder: str) -> None:
    """Delete everything inside `folder`. What cannot be deleted raises.

    Goes down and up one folder at a time, so no chain of folders is too deep for it. Nobody else may be at work.
    """
    os.chmod(folder, 0o700)
    here = os.open(folder, _FOLDER)
    above: list[str] = []
    waiting = [_delete_files(here)]
    try:
        while True:
            if waiting[-1]:
                above.append(waiting[-1].pop())
                os.chmod(above[-1], 0o700, dir_fd=here)
                here = _move(here, above[-1])
                waiting.append(_delete_files(here))
            elif above:
                here = _move(here, "..")
                os.rmdir(above.pop(), dir_fd=here)
                waiting.pop()
            else:
                return
    finally:
        os.close(here)


def _delete_files(here: int) -> list[str]:
    """Delete the files and empty folders of a folder; the names of the folders in it that hold something."""
    full = []
    for name in os.listdir(here):
        if not stat.S_ISDIR(os.lstat(name, dir_fd=here).st_mode):
            os.unlink(name, dir_fd=here)
            continue
        try:
            os.rmdir(name, dir_fd=here)
        except OSError:
            full.append(name)
    return full


def _move(here: int, name: str) -> int:
    """The folder `name` seen from `here`, which is closed."""
    there = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
    os.close(here)
    return there


def remove_folder(folder: str) -> None:
    """Delete `folder` and what is in it, as far as that can be done."""
    with contextlib.suppress(OSError):
        empty_folder(folder)
        os.rmdir(folder)
