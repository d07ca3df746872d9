"""Shards: a spec's rows, written in parts while the work goes on and sealed once when it is done.

A part is a whole micro-batch in a file of its own that carries its checksum. A kill therefore costs the batch in
flight and nothing else, no file is ever appended to or locked, and a resumed worker redoes exactly the rows that no
valid part holds. Sealing merges the parts into one shard with a manifest and removes them, which bounds the number of
files. Those of a large run are joined into bundles later on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from foreshock.durable import atomic_file, atomic_write_bytes, same_time, sweep_temporaries
from foreshock.errors import InputError
from foreshock.jobs.records.bundles import Bundles
from foreshock.jobs.records.jsonl import encode_rows, parse_line, read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.lines import Line, LineReader, good_lines, index_shard
from foreshock.jobs.records.marks import count
from foreshock.jobs.records.places import Place
from foreshock.jobs.records.rows import Row, RowIdentity, row_identity
from foreshock.jobs.records.sealed_log import Sealed, log_sealed
from foreshock.jobs.records.spec import JobSpec

_PART_TRAILER = "part_sha256"
_PIECE = 1 << 20
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
        return cls._of(read_json(path), path)

    @classmethod
    def of_bytes(cls, text: bytes, path: Path) -> ShardManifest:
        """Of a manifest's text, which comes from `path`. Raises InputError for another text."""
        try:
            return cls._of(json.loads(text), path)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not a shard manifest: {error}", path=path) from None

    @classmethod
    def _of(cls, data: Any, path: Path) -> ShardManifest:
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


class SealedShard(NamedTuple):
    """A shard with its manifest. `is_as_sealed`: size and times of change say so; else its checksum must be looked at.

    A single shard's own size and time of change tell; of one in a bundle, the bundle's.
    """

    manifest: ShardManifest
    place: Place
    is_as_sealed: bool


class ShardStore:
    """Reads shards of a run directory, wherever they are: in files of their own, or in bundles of many."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self.bundles = Bundles(layout.bundles)

    def candidates(self, spec: JobSpec) -> Iterator[SealedShard]:
        """Where its shard may be; the first of which the checksum holds is the shard.

        A shard that is in neither place has perhaps been moved from the one to the other in between, so bundles are
        looked for once more.
        """
        yield from self.in_bundles(spec)
        yield from self._single(spec)
        if self.bundles.renew():
            yield from self.in_bundles(spec)

    def in_bundles(self, spec: JobSpec) -> Iterator[SealedShard]:
        """Those of them that are in the bundles seen so far."""
        for found in self.bundles.of(spec.key()):
            with suppress(InputError, OSError):
                manifest = ShardManifest.of_bytes(found.manifest.read(), found.bundle.path)
                if manifest.spec_key == spec.key():
                    yield SealedShard(manifest, found.shard, found.bundle.is_as_written)

    def sealed(self, spec: JobSpec) -> SealedShard | None:
        """The shard if it is complete and as it was sealed, else None.

        Size and modification time tell; where the time differs (a copy, a file system that rounds), the checksum.
        Aggregation, which reads every byte anyway, checks every checksum.
        """
        return next((one for one in self.candidates(spec) if one.is_as_sealed or checksum_holds(one)), None)

    def manifest(self, spec: JobSpec) -> ShardManifest | None:
        """Its manifest, as `sealed`."""
        found = self.sealed(spec)
        return None if found is None else found.manifest

    def is_complete(self, spec: JobSpec) -> bool:
        """Complete, intact and without error rows."""
        if any(found.bundle.is_as_written for found in self.bundles.of(spec.key())):
            return True  # only such shards are bundled
        manifest = self.manifest(spec)
        return manifest is not None and manifest.n_errors == 0

    def rows(self, spec: JobSpec) -> list[Row]:
        """Rows of a sealed shard, in canonical order. Raises InputError if it is not there."""
        found = self.sealed(spec)
        if found is None:
            raise InputError("no sealed shard", path=self.layout.shard_file(spec))
        lines = enumerate(found.place.read().splitlines(), 1)
        return [parse_line(line, found.place.path, number) for number, line in lines]

    def index(self, spec: JobSpec) -> dict[RowIdentity, Line]:
        """Where the good rows of its shard lie, as far as there is one."""
        found = self.sealed(spec)
        if found is not None:
            return index_shard(found.place)
        try:
            return index_shard(Place.whole(self.layout.shard_file(spec)))
        except FileNotFoundError:
            return {}

    def discard_parts(self, spec: JobSpec) -> None:
        """Remove what a writer killed between sealing and tidying left of a complete shard's parts."""
        shutil.rmtree(self.layout.parts_folder(spec), ignore_errors=True)

    def open(self, spec: JobSpec, origin: Origin) -> ShardWriter:
        """Start or continue a shard as its one writer."""
        return ShardWriter(self, spec, origin)

    def _single(self, spec: JobSpec) -> Iterator[SealedShard]:
        path = self.layout.shard_file(spec)
        try:
            manifest = ShardManifest.read(self.layout.manifest_file(spec))
            now = path.stat()
        except (InputError, OSError):
            return
        if manifest.spec_key == spec.key() and manifest.size in (None, now.st_size):
            is_same = manifest.size is not None and same_time(manifest.mtime_ns, now.st_mtime_ns)
            yield SealedShard(manifest, Place(path, 0, now.st_size), is_same)


def checksum_holds(shard: SealedShard) -> bool:
    """Whether its bytes, all of which are read, are those that were sealed."""
    digest, left = hashlib.sha256(), shard.place.size
    try:
        with shard.place.path.open("rb") as file:
            file.seek(shard.place.start)
            while left and (piece := file.read(min(left, _PIECE))):
                digest.update(piece)
                left -= len(piece)
    except OSError:
        return False
    return digest.hexdigest() == shard.manifest.sha256


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
        sealed = store.sealed(spec)
        if sealed is not None:
            self._lines = index_shard(sealed.place)
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
            LineReader(lambda: self._store.index(self.spec)) as read,
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
