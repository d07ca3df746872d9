"""`python on_node.py FOLDER ROLE SCRATCH GPUS`: what a canary job finds out from Python, on the node or in the image.

It runs as a plain file with the standard library alone, because the image may hold another version of foreshock, or
none. Results go to FOLDER/ROLE.json, written whole.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_INTERNET_S = 4.0
_ANSWER_S = 20.0


def main() -> int:
    """Look at everything; a look that fails says so in its place."""
    folder, role, scratch, gpus = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    looks: dict[str, Callable[[], Any]] = {
        "python": lambda: platform.python_version(),
        "hostname": socket.gethostname,
        "foreshock": _foreshock,
        "image": lambda: os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER"),
        "home": lambda: os.access(Path.home(), os.W_OK),
        "shared": lambda: examine_file_system(folder),
        "answer_s": lambda: _answer(folder),
    }
    if role == "node":
        looks |= {"scratch_written": lambda: _writes(scratch), "internet": _internet, "sandbox": _sandbox}
        if gpus:
            looks["gpu"] = _gpu
    found: dict[str, Any] = {}
    for name, look in looks.items():
        try:
            found[name] = look()
        except Exception as error:  # noqa: BLE001 - what fails is a finding
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    temporary = folder / f".{role}.json.new"
    temporary.write_text(json.dumps(found))
    temporary.replace(folder / f"{role}.json")
    return 0


def examine_file_system(folder: Path) -> dict[str, Any]:
    """How the file system of `folder` behaves: each a True, or what the system said instead; clocks in seconds."""
    work = folder / f"fs-{secrets.token_hex(4)}"
    work.mkdir()
    a, b = work / "a", work / "b"
    times = []
    for number in range(4):
        before = time.time()
        a.write_text(str(number))
        times.append((a.stat().st_mtime_ns, before))
        time.sleep(0.02)
    found: dict[str, Any] = {
        "rename": _tried(lambda: _rename(a, b)),
        "directory_fsync": _tried(lambda: _fsync_directory(work)),
        "hard_link": _tried(lambda: _hard_link(b, work / "c")),
        "direct_io": _tried(lambda: _direct(b)),
        "exclusive_create": _tried(lambda: _exclusive(work / "d")),
        "mtime_ahead_s": round(times[-1][0] / 1e9 - times[-1][1], 3),
        "mtime_whole_seconds": all(mtime % 10**9 == 0 for mtime, _ in times),
    }
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    return found


def _tried(what: Callable[[], None]) -> bool | str:
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except AssertionError as error:
        return str(error)
    return True


def _rename(old: Path, new: Path) -> None:
    new.write_text("earlier")
    with new.open() as reader:
        old.replace(new)
        assert reader.read() == "earlier", "a reader of the replaced file lost it"
    assert new.read_text() == "3", "the renamed file holds something else"
    assert not old.exists(), "the old name is still there"


def _fsync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hard_link(old: Path, new: Path) -> None:
    os.link(old, new)
    assert old.stat().st_nlink == 2, "a second name is not counted"


def _direct(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))


def _exclusive(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    raise AssertionError("a file was created exclusively twice")


def _answer(folder: Path) -> float | None:
    """Seconds until a file written here was seen by the submitting machine and its answer seen here; None: too long."""
    call, answer = folder / f"call-{secrets.token_hex(4)}", None
    began = time.monotonic()
    call.write_text("")
    answer = call.with_name(call.name.replace("call", "answer"))
    while time.monotonic() - began < _ANSWER_S:
        if answer.name in os.listdir(folder):  # noqa: PTH208 - the names alone, past a negative cache entry
            return round(time.monotonic() - began, 2)
        time.sleep(0.1)
    return None


def _writes(folder: Path) -> bool:
    (folder / "written").write_text("")
    return True


def _foreshock() -> str:
    from importlib import metadata

    return metadata.version("foreshock")


def _internet() -> bool:
    """Whether the Hugging Face hub, or the mirror that HF_ENDPOINT names, takes a connection."""
    from urllib.parse import urlsplit

    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_INTERNET_S).close()
    except OSError:
        return False
    return True


def _sandbox() -> dict[str, Any]:
    from foreshock.jobs.verify.sandbox.tiers import sandbox_report

    report = sandbox_report()
    return {
        "tier": None if report.tier is None else report.tier.value,
        "full": report.is_full,
        "advice": list(report.advice),
    }


def _gpu() -> dict[str, Any]:
    """What torch sees, and whether a kernel runs: a device can be listed and still refuse every one."""
    import torch

    if not torch.cuda.is_available():
        return {"count": 0, "torch": torch.__version__, "cuda": torch.version.cuda}
    count = torch.cuda.device_count()
    one = torch.ones(8, 8, device="cuda")
    total = float((one @ one).sum())
    memory = min(torch.cuda.get_device_properties(i).total_memory for i in range(count)) / 2**30
    name = torch.cuda.get_device_name(0)
    return {"count": count, "name": name, "memory_gib": round(memory, 1), "computes": total == 512.0}


if __name__ == "__main__":
    sys.exit(main())
