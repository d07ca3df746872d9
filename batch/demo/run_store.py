"""Finished training runs on disk: written whole, recognised later by a manifest.

A run is built in a hidden sibling directory and renamed when complete, so a run that exists under its name is
finished; its manifest holds each file's hash and the recipe's digest. A run that does not match is never overwritten:
the user is told which directory to move away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json

MANIFEST = "manifest.json"


def is_finished(run_dir: Path, recipe_sha256: str) -> bool:
    """Is this run there, of this recipe, with every file as it was written?

    Raises InputError when it is there but differs.
    """
    if not run_dir.exists():
        return False
    remedy = f"move {run_dir} away (or choose another directory) and run the same command again"
    manifest = read_json(run_dir / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise InputError("not a training run's manifest", path=run_dir / MANIFEST, fix=remedy)
    if manifest.get("recipe_sha256") != recipe_sha256:
        raise InputError("this run was trained with another recipe or seed", path=run_dir, fix=remedy)
    for name, digest in manifest["files"].items():
        path = run_dir / name
        if not path.is_file() or _sha256(path) != digest:
            raise InputError("missing, or not as it was when training ended", path=path, fix=remedy)
    return True


def build(run_dir: Path, recipe_sha256: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary directory, add the manifest, and rename it to `run_dir`.

    One process builds a run at a time; what a killed one left is removed first.
    """
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = run_dir.with_name(f".{run_dir.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        write(partial)
        files = {path.relative_to(partial).as_posix(): _sha256(path) for path in _files(partial)}
        write_json(partial / MANIFEST, {"schema_version": 1, "recipe_sha256": recipe_sha256, "files": files})
        for path in _files(partial):
            _sync(path)
        partial.rename(run_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(run_dir.parent)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
