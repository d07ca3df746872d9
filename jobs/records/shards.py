"""Shards: a spec's rows, written in parts while the work goes on and sealed once when it is done.

A part is a whole micro-batch in a file of its own that carries its checksum. A kill therefore costs the batch in
flight and nothing else, no file is ever appended to or locked, and a resumed worker redoes exactly the rows that no
valid part holds. Sealing merges the parts into one shard with a manifest and removes them, which bounds the number of
files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foreshock.durable import atomic_file, atomic_write_bytes, sweep_temporaries
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import encode_rows, read_json, read_jsonl, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.lines import Line, LineReader, good_lines, index_shard
from foreshock.jobs.records.marks import count
from foreshock.jobs.records.rows import Row, RowIdentity, row_identity
from foreshock.jobs.records.sealed_log import Sealed, log_sealed
from foreshock.jobs.records.spec import JobSpec

_PART_TRAILER = "part_sha256"
_SAMPLED = ("output_tokens", "generate_s", "prefix_queries", "prefix_hits")


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """Says that a shard is complete. `n_errors` rows carry an error and are redone on resume.

    `skipped` counts tasks left out, by reason; `timings` are seconds by phase, read by the cost model; `behaviour`
    holds [rows that do, rows of which it is known] by measure (see `marks`), of sampled rows.
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
    behaviour: dict[str, list[int]] = field(default_factory=dict)
    host: str | None = None
    slurm_job: str | None = None
    ran: str | None = None
    """Name of the record below `ran/` that says what computed the shard; see `foreshock.ran`."""
    size: int | None = None
    mtime_ns: int | None = None
    """Size and modification time of the shard when it was sealed: where both still hold, it need not be read."""
    device: str | None = None
    """GPU name, or `cpu`; None where it cannot be told."""

    def sealed(self) -> Sealed:
        """What `status` says of the shard."""
        return Sealed(
            self.size,
            self.mtime_ns or 0,
            self.n_errors,
            self.n_exploits or 0,
            self.git_commit,
            self.behaviour or {},
            self.ran,
            *(self.timings.get(name, 0.0) for name in _SAMPLED),
        )

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
    device: str | None = None
    ran: str | None = None


class ShardStore:
    """Reads shards of a run directory."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout

    def manifest(self, spec: JobSpec) -> ShardManifest | None:
        """The manifest if the shard is complete and as it was sealed, else None.

        Size and modification time tell; where the time differs (a copy, a file system that rounds), the checksum.
        Aggregation, which reads every byte anyway, checks every checksum.
        """
        try:
            manifest = ShardManifest.read(self.layout.manifest_file(spec))
        except (InputError, OSError):
            return None
        try:
            now = self.layout.shard_file(spec).stat()
        except OSError:
            return None
        if manifest.size is not None and manifest.size != now.st_size:
            return None
        if manifest.size is not None and _same_time(manifest.mtime_ns, now.st_mtime_ns):
            return manifest if manifest.spec_key == spec.key() else None
        try:
            with self.layout.shard_file(spec).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        return self.manifest_of(spec, digest)

    def manifest_of(self, spec: JobSpec, sha256: str) -> ShardManifest | None:
        """The manifest if it is of a shard of `spec` with this checksum, else None."""
        try:
            manifest = ShardManifest.read(self.layout.manifest_file(spec))
        except (InputError, OSError):
            return None
        return manifest if manifest.spec_key == spec.key() and manifest.sha256 == sha256 else None

    def is_complete(self, spec: JobSpec) -> bool:
        """Complete, intact and without error rows."""
        manifest = self.manifest(spec)
        return manifest is not None and manifest.n_errors == 0

    def rows(self, spec: JobSpec) -> list[Row]:
        """Rows of a sealed shard, in canonical order."""
        return [row for _, row in read_jsonl(self.layout.shard_file(spec))]

    def discard_parts(self, spec: JobSpec) -> None:
        """Remove what a writer killed between sealing and tidying left of a complete shard's parts."""
        shutil.rmtree(self.layout.parts_folder(spec), ignore_errors=True)

    def open(self, spec: JobSpec, origin: Origin) -> ShardWriter:
        """Start or continue a shard as its one writer."""
        return ShardWriter(self, spec, origin)


def _same_time(recorded: int | None, now: int) -> bool:
    """Whether two modification times are one, to the precision that the file system kept."""
    return recorded is not None and (
        recorded == now or any(recorded // unit * unit == now for unit in (100, 1000, 10**9))
    )


class ShardWriter:
    """Writes one shard. Rows that earlier attempts finished are in `done`; write the rest and seal.

    Only where rows lie is kept in memory: a shard may hold any number of continuations of any length.
    """

    def __init__(self, store: ShardStore, spec: JobSpec, origin: Origin) -> None:
        self.spec = spec
        self.origin = origin
        self._store = store
        self._layout = store.layout
        self._parts = self._layout.parts_folder(spec)
        self._lines: dict[RowIdentity, Line] = {}
        self._next_part = 0
        folder = self._layout.shard_folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        if store.manifest(spec) is not None:
            self._lines = index_shard(self._layout.shard_file(spec))
        self._load_parts()

    @property
    def done(self) -> frozenset[RowIdentity]:
        """Identities that need no more work; error rows are not among them."""
        return frozenset(self._lines)

    def write_part(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make a finished micro-batch durable."""
        if not rows:
            return
        path = self._parts / f"{self._next_part:05d}-{socket.gethostname()}-{os.getpid()}.jsonl"
        encoded = [encode_rows([row]) for row in rows]
        body = b"".join(encoded)
        trailer = json.dumps({_PART_TRAILER: hashlib.sha256(body).hexdigest(), "n_records": len(rows)})
        atomic_write_bytes(path, body + trailer.encode() + b"\n")
        self._next_part += 1
        self._accept(good_lines(path, zip(rows, encoded, strict=True)))

    def seal(
        self,
        error_rows: Sequence[Mapping[str, Any]] = (),
        skipped: Mapping[str, int] | None = None,
        timings: Mapping[str, float] | None = None,
    ) -> ShardManifest:
        """Merge all parts into the shard, in canonical order, and write the manifest last."""
        rows: list[tuple[RowIdentity, Line | bytes]] = [*self._lines.items()]
        rows += [(row_identity(row), encode_rows([row])) for row in error_rows]
        order = {task: i for i, task in enumerate(self.spec.task_ids)}
        rows.sort(key=lambda r: (order[r[0].task_id], r[0].attempt_idx, r[0].prefill_level, r[0].prefill_sha256))
        digest = hashlib.sha256()
        with (
            atomic_file(self._layout.shard_file(self.spec)) as file,
            LineReader(self._layout.shard_file(self.spec)) as read,
        ):
            for identity, place in rows:
                line = place if isinstance(place, bytes) else read(identity, place)
                digest.update(line)
                file.write(line)
        sealed = self._layout.shard_file(self.spec).stat()
        exploits = sum(line.exploit for line in self._lines.values())
        manifest = ShardManifest(
            spec_key=self.spec.key(),
            n_records=len(rows),
            sha256=digest.hexdigest(),
            schema_version=self.origin.schema_version,
            git_commit=self.origin.git_commit,
            image_digest=self.origin.image_digest,
            n_errors=len(error_rows),
            n_exploits=exploits + sum(1 for row in error_rows if row.get("exploit_success")),
            skipped=dict(skipped or {}),
            timings={name: round(seconds, 4) for name, seconds in (timings or {}).items()},
            behaviour=count(line.marks for line in self._lines.values()),
            host=socket.gethostname(),
            slurm_job=self.origin.slurm_job,
            ran=self.origin.ran,
            size=sealed.st_size,
            mtime_ns=sealed.st_mtime_ns,
            device=self.origin.device,
        )
        write_json(self._layout.manifest_file(self.spec), asdict(manifest))
        log_sealed(self._layout, manifest.spec_key, manifest.sealed())
        self._store.discard_parts(self.spec)
        return manifest

    def _accept(self, lines: Mapping[RowIdentity, Line]) -> None:
        for identity, line in lines.items():
            self._lines.setdefault(identity, line)

    def _load_parts(self) -> None:
        if not self._parts.is_dir():
            return
        sweep_temporaries(self._parts)
        for path in sorted(self._parts.glob("*.jsonl")):
            self._next_part = max(self._next_part, int(path.name.split("-", 1)[0]) + 1)
            rows = _read_part(path)
            if rows is not None:
                self._accept(good_lines(path, rows))


def _read_part(path: Path) -> list[tuple[Row, bytes]] | None:
    """Rows of a part and their bytes, or None if it is not whole: its rows are then simply done again."""
    lines = path.read_bytes().splitlines(keepends=True)
    if not lines:
        return None
    try:
        trailer = json.loads(lines[-1])
        body = b"".join(lines[:-1])
        if trailer.get(_PART_TRAILER) != hashlib.sha256(body).hexdigest():
            return None
        return [(json.loads(line), line) for line in lines[:-1]]
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return None


def count_part_rows(folder: Path) -> int:
    """Rows in the whole parts of an unsealed shard; an estimate for display, since parts may repeat rows."""
    if not folder.is_dir():
        return 0
    return sum(len(rows) for path in folder.glob("*.jsonl") if (rows := _read_part(path)) is not None)
