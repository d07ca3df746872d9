"""Shards: a spec's rows, written in parts while the work goes on and sealed once when it is done.

The one hard decision: a part is a whole micro-batch in a file of its own that carries its checksum. A kill
therefore costs the batch in flight and nothing else, no file is ever appended to or locked, and a resumed
worker redoes exactly the rows that no valid part holds. Sealing merges the parts into one shard with a
manifest and removes them, which bounds the number of files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import (
    atomic_write_bytes,
    encode_rows,
    read_json,
    read_jsonl,
    sweep_temporaries,
    write_json,
)
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import ERROR_KEY, Row, RowIdentity, row_identity
from foreshock.jobs.spec import JobSpec

_PART_TRAILER = "part_sha256"


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """Says that a shard is complete. `n_errors` rows carry an error and are redone on resume.

    `skipped` counts tasks left out, by reason; `timings` are seconds by phase, read by the cost model.
    """

    spec_key: str
    n_records: int
    sha256: str
    schema_version: int
    git_commit: str | None
    image_digest: str | None
    n_errors: int = 0
    n_exploits: int | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    host: str | None = None
    slurm_job: str | None = None

    @classmethod
    def read(cls, path: Path) -> ShardManifest:
        """Raises InputError for a file that is not a manifest."""
        data = read_json(path)
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"not a shard manifest: {error}", path=path) from None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows were computed; goes into manifests."""

    git_commit: str | None
    image_digest: str | None
    schema_version: int
    slurm_job: str | None = None


class ShardStore:
    """Reads shards of a run directory."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout

    def manifest(self, spec: JobSpec) -> ShardManifest | None:
        """The manifest if the shard is complete and its checksum holds, else None."""
        path = self.layout.manifest_file(spec)
        if not path.is_file():
            return None
        try:
            manifest = ShardManifest.read(path)
            data = self.layout.shard_file(spec).read_bytes()
        except (InputError, OSError):
            return None
        good = manifest.spec_key == spec.key() and hashlib.sha256(data).hexdigest() == manifest.sha256
        return manifest if good else None

    def is_complete(self, spec: JobSpec) -> bool:
        """Complete, intact and without error rows."""
        manifest = self.manifest(spec)
        return manifest is not None and manifest.n_errors == 0

    def rows(self, spec: JobSpec) -> list[Row]:
        """Rows of a sealed shard, in canonical order."""
        return [row for _, row in read_jsonl(self.layout.shard_file(spec))]

    def open(self, spec: JobSpec, origin: Origin) -> ShardWriter:
        """Start or continue a shard as its one writer."""
        return ShardWriter(self, spec, origin)


class ShardWriter:
    """Writes one shard. Rows that earlier attempts finished are in `done`; write the rest and seal."""

    def __init__(self, store: ShardStore, spec: JobSpec, origin: Origin) -> None:
        self.spec = spec
        self.origin = origin
        self._layout = store.layout
        self._parts = self._layout.parts_folder(spec)
        self._rows: dict[RowIdentity, Row] = {}
        self._next_part = 0
        folder = self._layout.shard_folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        if store.manifest(spec) is not None:
            self._accept(store.rows(spec))
        self._load_parts()

    @property
    def done(self) -> frozenset[RowIdentity]:
        """Identities that need no more work; error rows are not among them."""
        return frozenset(self._rows)

    def write_part(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make a finished micro-batch durable."""
        if not rows:
            return
        name = f"{self._next_part:05d}-{socket.gethostname()}-{os.getpid()}.jsonl"
        body = encode_rows(rows)
        trailer = json.dumps({_PART_TRAILER: hashlib.sha256(body).hexdigest(), "n_records": len(rows)})
        atomic_write_bytes(self._parts / name, body + trailer.encode() + b"\n")
        self._next_part += 1
        self._accept(rows)

    def seal(
        self,
        error_rows: Sequence[Mapping[str, Any]] = (),
        skipped: Mapping[str, int] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> ShardManifest:
        """Merge all parts into the shard, in canonical order, and write the manifest last."""
        order = {task: i for i, task in enumerate(self.spec.task_ids)}
        rows = sorted(
            [*self._rows.values(), *error_rows],
            key=lambda r: (order[r["task_id"]], r["attempt_idx"], r["prefill_level"], r["prefill_sha256"]),
        )
        body = encode_rows(rows)
        manifest = ShardManifest(
            spec_key=self.spec.key(),
            n_records=len(rows),
            sha256=hashlib.sha256(body).hexdigest(),
            schema_version=self.origin.schema_version,
            git_commit=self.origin.git_commit,
            image_digest=self.origin.image_digest,
            n_errors=len(error_rows),
            n_exploits=sum(1 for row in rows if row.get("exploit_success")),
            skipped=dict(skipped or {}),
            timings={name: round(seconds, 4) for name, seconds in (timings or {}).items()},
            host=socket.gethostname(),
            slurm_job=self.origin.slurm_job,
        )
        atomic_write_bytes(self._layout.shard_file(self.spec), body)
        write_json(self._layout.manifest_file(self.spec), asdict(manifest))
        self.discard_parts()
        return manifest

    def discard_parts(self) -> None:
        """Remove parts whose rows are in the sealed shard."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _accept(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            if row.get(ERROR_KEY) is None:
                self._rows.setdefault(row_identity(row), dict(row))

    def _load_parts(self) -> None:
        if not self._parts.is_dir():
            return
        sweep_temporaries(self._parts)
        for path in sorted(self._parts.glob("*.jsonl")):
            self._next_part = max(self._next_part, int(path.name.split("-", 1)[0]) + 1)
            rows = _read_part(path)
            if rows is not None:
                self._accept(rows)


def _read_part(path: Path) -> list[Row] | None:
    """Rows of a part, or None if it is not whole: its rows are then simply done again."""
    lines = path.read_bytes().splitlines(keepends=True)
    if not lines:
        return None
    try:
        trailer = json.loads(lines[-1])
        body = b"".join(lines[:-1])
        if trailer.get(_PART_TRAILER) != hashlib.sha256(body).hexdigest():
            return None
        return [json.loads(line) for line in lines[:-1]]
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return None


def count_part_rows(folder: Path) -> int:
    """Rows in the whole parts of an unsealed shard; an estimate for display, since parts may repeat rows."""
    if not folder.is_dir():
        return 0
    return sum(len(rows) for path in folder.glob("*.jsonl") if (rows := _read_part(path)) is not None)
