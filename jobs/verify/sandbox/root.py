"""The root file system of the full tier: a tmpfs with read-only views of the libraries, and nothing else."""

from __future__ import annotations

import os
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
            have = os.statvfs(point).f_flag
            keep = sum(flag for bit, flag in _KEPT_FLAGS.items() if have & bit)
            kernel.mount("none", point, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | keep)


def empty_folder(folder: str) -> None:
    """Delete everything inside `folder`. What cannot be deleted raises."""
    os.chmod(folder, 0o700)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                empty_folder(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)
