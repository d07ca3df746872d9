"""The identity of an image: what runs and shards record, so that a resume on another image is noticed.

The digest covers the bytes that run, never a name or a date. A SIF's is the sha256 of the file, as `sha256sum` prints
it; a sandbox folder's covers every path, mode, link and content in it; a Docker image's is its id, which is the
digest of its configuration and, through it, of its layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path

from foreshock.containers.errors import ImageError

_CHUNK = 8 * 1024 * 1024


def image_file_digest(image: Path, cache: Path | None = None) -> str:
    """`sha256:...` of a SIF, `sandbox-sha256:...` of a folder.

    Hashing 9 GB takes a minute, so a SIF's digest is kept in `cache` (a JSON file, by default in the user's cache
    folder) under its inode, size and times to the nanosecond: any write to the file makes it look again.
    Raises ImageError if there is no such image.
    """
    if image.is_dir():
        return _folder_digest(image)
    try:
        facts = image.stat()
    except OSError as error:
        raise ImageError(f"no image at {image} ({error.strerror}); build one: foreshock image build") from None
    store = cache if cache is not None else default_cache()
    key = f"{facts.st_dev}:{facts.st_ino}:{facts.st_size}:{facts.st_mtime_ns}:{facts.st_ctime_ns}"
    known = _read_cache(store)
    if key not in known:
        known[key] = _file_sha256(image)
        _write_cache(store, known)
    return f"sha256:{known[key]}"


def default_cache() -> Path:
    """Where digests are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "foreshock" / "image-digests.json"


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _folder_digest(folder: Path) -> str:
    """Digest over sorted entries: relative path, kind, permission bits, link target or content."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        entry: list[str] = [path.relative_to(folder).as_posix(), oct(stat.S_IMODE(facts.st_mode))]
        if stat.S_ISLNK(facts.st_mode):
            entry += ["link", str(path.readlink())]
        elif stat.S_ISDIR(facts.st_mode):
            entry += ["folder"]
        elif stat.S_ISREG(facts.st_mode):
            try:
                entry += ["file", _file_sha256(path)]
            except PermissionError:
                raise ImageError(
                    f"{path} cannot be read, so {folder} has no digest; run as the user who built it"
                ) from None
        else:
            entry += ["other"]
        digest.update(json.dumps(entry).encode())
    return f"sandbox-sha256:{digest.hexdigest()}"


def _read_cache(store: Path) -> dict[str, str]:
    try:
        known = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a cache that is missing or damaged only costs the time to hash again
    return known if isinstance(known, dict) else {}


def _write_cache(store: Path, known: dict[str, str]) -> None:
    part = store.with_name(f"{store.name}.{os.getpid()}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=1), encoding="utf-8")
        part.replace(store)
    except OSError:  # an unwritable home is normal on compute nodes
        with contextlib.suppress(OSError):
            part.unlink()
