"""Only lines of sealed shards are read, all of them, in shard order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foreshock.analysis.aggregate import sealed
from foreshock.analysis.aggregate.sealed import SealedShards
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams


def _spec(shard: int) -> JobSpec:
    return JobSpec(
        JobKind.EVAL, Checkpoint("sft", 8, Path("/nowhere/checkpoint-8")), (10,), (f"task-{shard}",), (0, 1),
        SamplingParams(), "plain", "t", "m", "p", "q", "builtin", 1, shard,
    )  # fmt: skip


def _rows(spec: JobSpec) -> list[Row]:
    place = {"checkpoint": spec.checkpoint.name, "prefill_level": 10, "prefill_sha256": "s"}
    return [{**place, "task_id": task, "attempt_idx": i} for task in spec.task_ids for i in spec.attempts]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path)


@pytest.fixture
def specs(layout: RunLayout) -> list[JobSpec]:
    """Of five sealed shards."""
    found = [_spec(shard) for shard in range(5)]
    for spec in found:
        writer = ShardStore(layout).open(spec, Origin("abc1234", None, 1))
        writer.write_part(_rows(spec))
        writer.seal()
    return found


def _read(layout: RunLayout, specs: list[JobSpec]) -> tuple[list[bytes], list[JobSpec]]:
    missing: list[JobSpec] = []
    with SealedShards(ShardStore(layout)) as shards:
        return [bytes(block) for block in shards.blocks(specs, missing.append)], missing


def _lines(layout: RunLayout, specs: list[JobSpec]) -> bytes:
    return b"".join(layout.shard_file(spec).read_bytes() for spec in specs)


def test_small_shards_are_read_together_in_their_order(layout: RunLayout, specs: list[JobSpec]) -> None:
    assert _read(layout, specs[::-1]) == ([_lines(layout, specs)], [])


@pytest.fixture(params=["held", "in pieces"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shard is large."""
    monkeypatch.setattr(sealed, "BYTES_AT_ONCE", 1)
    if request.param == "in pieces":
        monkeypatch.setattr(sealed, "WHOLE_BYTES", 0)


@pytest.mark.usefixtures("_size")
def test_large_shards_are_read_one_by_one(layout: RunLayout, specs: list[JobSpec]) -> None:
    blocks, missing = _read(layout, specs)
    assert (b"".join(blocks), missing) == (_lines(layout, specs), [])
    assert len(blocks) >= len(specs)


@pytest.mark.usefixtures("_size")
def test_a_shard_that_is_not_what_was_sealed_is_missing(layout: RunLayout, specs: list[JobSpec]) -> None:
    changed, unsealed, gone, foreign, good = specs
    layout.shard_file(changed).write_bytes(layout.shard_file(changed).read_bytes().replace(b"task-0", b"task-9"))
    layout.manifest_file(unsealed).unlink()
    layout.shard_file(gone).unlink()
    layout.manifest_file(foreign).write_bytes(layout.manifest_file(good).read_bytes())
    blocks, missing = _read(layout, specs)
    assert b"".join(blocks) == _lines(layout, [good])
    assert missing == [changed, unsealed, gone, foreign]


def test_an_empty_shard_has_no_lines(layout: RunLayout, specs: list[JobSpec]) -> None:
    empty = replace(_spec(5), task_ids=())
    ShardStore(layout).open(empty, Origin("abc1234", None, 1)).seal()
    assert _read(layout, [empty]) == ([], [])
    assert _read(layout, [*specs, empty]) == ([_lines(layout, specs)], [])
