"""What an image holds, as a list of files and one digest of it, baked in when the image is built.

A SIF's own digest changes when it is signed, and a rebuilt or converted image is another file: the digest of the list
stays. The list names every file and link below `ROOTS` but the record itself, and a running image can be held against
it. `python -m foreshock.image_contents write|check` is called by install.sh and by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from foreshock.image_record import CONTENTS, IMAGE_FOLDER, RECORD

ROOTS = ("usr", "opt")
"""Below the root of the file system: all that runs. /etc is left out, since runtimes write their own files there."""
LEFT_OUT = ("usr/local/foreshock/image", "usr/local/foreshock-build", "usr/local/foreshock/source")
"""The record itself, what a build removes, and the test image's sources."""
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """A path of the list that is not as it was built. `what`: changed, missing or unreadable."""

    path: str
    what: str


def content_lines(root: Path = Path("/")) -> list[str]:
    """One line a file or link, sorted by path: `x` or `-` for executable, sha256 of content or link target, path."""
    paths = sorted(path for top in ROOTS for path in _walk(root, top))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashlib lets go of the lock
        return list(pool.map(lambda path: _line(root, path), paths))


def content_digest(lines: list[str]) -> str:
    """`content-sha256:...` of a list."""
    return "content-sha256:" + hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def write(folder: Path = IMAGE_FOLDER, root: Path = Path("/")) -> str:
    """Write the list beside the record and its digest into it; returns the digest."""
    lines = content_lines(root)
    (folder / CONTENTS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["content"] = content_digest(lines)
    (folder / RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return str(record["content"])


def differences(folder: Path = IMAGE_FOLDER, root: Path = Path("/")) -> list[Difference]:
    """What is not as the list says. Files that the list does not name are no difference: a runtime mounts its own.

    Raises ValueError if the list is not the one that the record names, FileNotFoundError outside an image.
    """
    lines = (folder / CONTENTS).read_text(encoding="utf-8").splitlines()
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if content_digest(lines) != record.get("content"):
        raise ValueError(f"{folder / CONTENTS} is not the list that {RECORD} names")

    def held(line: str) -> Difference | None:
        path = line.split("  ", 2)[2]
        try:
            return None if _line(root, path) == line else Difference(path, "changed")
        except FileNotFoundError:
            return Difference(path, "missing")
        except OSError:
            return Difference(path, "unreadable")

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return [found for found in pool.map(held, lines) if found is not None]


def in_words(found: list[Difference]) -> str:
    """The first few differences, on one line."""
    shown = ", ".join(f"/{one.path} {one.what}" for one in found[:_SHOWN])
    return shown + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _walk(root: Path, top: str) -> Iterator[str]:
    for folder, names, files in os.walk(root / top):
        below = Path(folder).relative_to(root).as_posix()
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        names[:] = [name for name in names if f"{below}/{name}" not in LEFT_OUT and name not in links]
        yield from (f"{below}/{name}" for name in (*files, *links))


def _line(root: Path, path: str) -> str:
    facts = (root / path).lstat()
    if stat.S_ISLNK(facts.st_mode):
        return f"l  {hashlib.sha256(os.fsencode((root / path).readlink())).hexdigest()}  {path}"
    if not stat.S_ISREG(facts.st_mode):
        return f"?  {stat.S_IFMT(facts.st_mode):o}  {path}"
    with (root / path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{'x' if facts.st_mode & stat.S_IXUSR else '-'}  {digest}  {path}"


def main(argv: list[str] | None = None) -> int:
    """Command line. Returns 0, or 1 when the image is not as it was built."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.image_contents", description=__doc__)
    parser.add_argument("action", choices=["write", "check"])
    parser.add_argument("--folder", type=Path, default=IMAGE_FOLDER, help="of the image's record")
    parser.add_argument("--root", type=Path, default=Path("/"), help="of the file system")
    args = parser.parse_args(argv)
    if args.action == "write":
        print(write(args.folder, args.root))
        return 0
    try:
        found = differences(args.folder, args.root)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(in_words(found) if found else "as it was built")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
