"""What was found of checkpoints, kept on disk, so that a second plan or another process need not look again.

Keys hold everything that an answer depends on: digests of the files, the libraries' versions, and a digest of this
package's own code, so that nothing found by other code is ever believed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from foreshock.errors import ForeshockError
from foreshock.jobs.records.jsonl import write_json

_JOBS = Path(__file__).resolve().parents[1]
_LIBRARIES = ("transformers", "tokenizers", "jinja2")


class Remembered:
    """Plain JSON values by what they are about. `folder` None: in this process alone.

    A folder that cannot be read or written costs time, nothing else.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._here: dict[str, Any] = {}

    def find(self, what: str, *depends: str) -> Any:
        """The value that was kept, None if there is none."""
        key = _key(what, depends)
        if key not in self._here and self._folder is not None:
            try:
                stored = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
                self._here[key] = stored["found"]
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return self._here.get(key)

    def keep(self, value: Any, what: str, *depends: str) -> Any:
        """Keep a value; returns it as it will be found: lists for tuples."""
        key = _key(what, depends)
        self._here[key] = json.loads(json.dumps(value))
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_json(self._folder / f"{key}.json", {"what": what, "found": value})
            except (OSError, ForeshockError):
                self._folder = None
        return self._here[key]


HERE = Remembered()
"""Of this process, for steps that have no results folder."""


def _key(what: str, depends: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps([what, code_digest(), *depends]).encode()).hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Of everything that decides what is found: this package's source and the versions of what it asks."""
    digest = hashlib.sha256()
    for name in _LIBRARIES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "absent"
        digest.update(f"{name} {version}\n".encode())
    for file in sorted(_JOBS.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
