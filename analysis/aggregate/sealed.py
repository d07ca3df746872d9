"""The lines of sealed shards: each shard verified and read once, ahead of who needs it.

What is verified is what is used. A shard is held whole while its checksum is computed and its lines are cut; only one
that is too large for that is read a second time, piece by piece.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from foreshock.analysis.aggregate.direct import read_whole
from foreshock.analysis.aggregate.files import blocks_of_lines
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.shards import SealedShard, ShardStore, checksum_holds
from foreshock.jobs.records.spec import JobSpec

BYTES_AT_ONCE = 1 << 22
"""Of lines that are looked at together: numpy and Arrow are faster with many."""

WHOLE_BYTES = 1 << 26
"""Up to these a shard is held whole."""

_AHEAD = 2
_NEWLINE = b"\n"


class _Shard(NamedTuple):
    """`lines` is None if they are to be read from the file."""

    sealed: SealedShard
    lines: memoryview | None


class SealedShards(Closing):
    """Reads shards of a run directory."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="shards")

    def close(self) -> None:
        """Stop reading."""
        self._ahead.shutdown(cancel_futures=True)

    def blocks(self, specs: Iterable[JobSpec], on_missing: Callable[[JobSpec], None]) -> Iterator[memoryview]:
        """Whole lines in shard order, many together; `on_missing` is told of a spec without a sealed shard."""
        waiting: list[memoryview] = []
        n_waiting = 0
        for lines in self._lines(sorted(specs, key=lambda s: (s.levels, s.shard_index)), on_missing):
            waiting.append(lines if lines[-1:] == _NEWLINE else memoryview(bytes(lines) + _NEWLINE))
            n_waiting += len(waiting[-1])
            if n_waiting >= BYTES_AT_ONCE:
                yield _joined(waiting)
                waiting.clear()
                n_waiting = 0
        if waiting:
            yield _joined(waiting)

    def _lines(self, specs: Sequence[JobSpec], on_missing: Callable[[JobSpec], None]) -> Iterator[memoryview]:
        for spec, shard in self._read(specs):
            if shard is None:
                on_missing(spec)
                continue
            if shard.sealed.manifest.n_errors == 0:
                self._store.discard_parts(spec)
            if shard.lines is None:
                yield from blocks_of_lines(shard.sealed.place, BYTES_AT_ONCE)
            elif len(shard.lines):
                yield shard.lines

    def _read(self, specs: Iterable[JobSpec]) -> Iterator[tuple[JobSpec, _Shard | None]]:
        begun: deque[tuple[JobSpec, Future[_Shard | None]]] = deque()
        for spec in specs:
            begun.append((spec, self._ahead.submit(self._verified, spec)))
            if len(begun) > _AHEAD:
                done, shard = begun.popleft()
                yield done, shard.result()
        for done, shard in begun:
            yield done, shard.result()

    def _verified(self, spec: JobSpec) -> _Shard | None:
        for sealed in self._store.candidates(spec):
            if sealed.place.size > WHOLE_BYTES:
                if sealed.is_as_sealed or checksum_holds(sealed):
                    return _Shard(sealed, None)
                continue
            try:
                lines = read_whole(sealed.place)
            except OSError:
                continue
            if hashlib.sha256(lines).hexdigest() == sealed.manifest.sha256:
                return _Shard(sealed, lines)
        return None


def _joined(blocks: Sequence[memoryview]) -> memoryview:
    return blocks[0] if len(blocks) == 1 else memoryview(b"".join(blocks))
