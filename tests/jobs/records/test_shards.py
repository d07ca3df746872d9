"""Shards survive kills: whatever is cut short is redone, whatever was durable is kept, and nothing is doubled."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.durable import atomic_write_bytes
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.shards import Origin, ShardManifest, ShardStore, count_part_rows
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

ORIGIN = Origin("abc1234", None, 1)


def make_spec(n_tasks: int = 3, n_attempts: int = 2) -> JobSpec:
    return JobSpec(
        kind=JobKind.EVAL,
        checkpoint=Checkpoint("sft", 8, Path("/nowhere/checkpoint-8")),
        levels=(10,),
        task_ids=tuple(f"task-{i}" for i in range(n_tasks)),
        attempts=tuple(range(n_attempts)),
        sampling=SamplingParams(),
        prompt_format="plain",
        template_sha256="t",
        model_fingerprint="m",
        prefill_sha256="p",
        problems_sha256="q",
        verifier="builtin",
        schema_version=1,
    )


def make_rows(spec: JobSpec) -> list[Row]:
    return [
        {
            "checkpoint": spec.checkpoint.name,
            "prefill_level": 10,
            "task_id": task,
            "attempt_idx": attempt,
            "prefill_sha256": f"sha-{task}",
            "exploit_success": attempt == 0,
            "response": "half a pair \ud800" if attempt else "naïve \u2028 line\n",
        }
        for task in spec.task_ids
        for attempt in spec.attempts
    ]


def test_a_sealed_shard_is_complete_and_leaves_no_part(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    assert not store.is_complete(spec)
    manifest = writer.seal(timings={"generate_s": 1.0})
    assert store.is_complete(spec)
    assert manifest.n_records == 6
    assert manifest.n_exploits == 3
    assert store.rows(spec) == make_rows(spec)
    assert not store.layout.parts_folder(spec).exists()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_split_into_parts_in_any_order_with_repeats_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    spec = make_spec()
    rows = make_rows(spec)
    reference = ShardStore(RunLayout(tmp_path_factory.mktemp("a")))
    writer = reference.open(spec, ORIGIN)
    writer.write_part(rows)
    writer.seal()
    other = ShardStore(RunLayout(tmp_path_factory.mktemp("b")))
    order = data.draw(st.permutations(rows))
    while order:
        size = data.draw(st.integers(1, len(order)))
        writer = other.open(spec, ORIGIN)  # every part by a new process, as after a kill
        writer.write_part(order[:size] + data.draw(st.lists(st.sampled_from(rows), max_size=2)))
        order = order[size:]
    other.open(spec, ORIGIN).seal()
    assert other.layout.shard_file(spec).read_bytes() == reference.layout.shard_file(spec).read_bytes()


def test_rows_are_not_kept_in_memory(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    rows = [row | {"response": "x" * 2_000_000} for row in make_rows(spec)]
    writer = store.open(spec, ORIGIN)
    tracemalloc.start()
    for i in range(len(rows)):
        writer.write_part(rows[i : i + 1])
    writer.seal()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
    assert most < 10_000_000  # one row at a time, in a few copies
    assert store.rows(spec) == rows


def test_parts_that_another_writer_has_merged_in_the_meantime_are_no_loss(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    rows = make_rows(spec)
    writer = store.open(spec, ORIGIN)
    writer.write_part(rows[:4])
    other = store.open(spec, ORIGIN)
    other.write_part(rows[4:])
    other.seal()
    writer.write_part(rows[4:])
    assert writer.seal().n_records == len(rows)
    assert store.rows(spec) == rows


def test_a_shard_that_another_writer_has_replaced_in_the_meantime_is_read_anew(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    rows = make_rows(spec)
    broken = {**rows[0], "error": "generation: lost"}
    first = store.open(spec, ORIGIN)
    first.write_part(rows[1:])
    first.seal([broken])
    writer, other = store.open(spec, ORIGIN), store.open(spec, ORIGIN)
    for each in (other, writer):  # the rows of the second one's shard have moved by the first's
        each.write_part(rows[:1])
        each.seal()
    assert store.rows(spec) == rows


def test_parts_that_are_gone_without_a_trace_are_said_to_be_gone(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    store.discard_parts(spec)
    with pytest.raises(ForeshockError, match="changed or removed while the shard was written\n  -> resume"):
        writer.seal()
    assert not store.is_complete(spec)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "garbage"])
def test_a_damaged_part_is_redone_and_the_others_are_kept(tmp_path: Path, damage: str) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    rows = make_rows(spec)
    writer = store.open(spec, ORIGIN)
    writer.write_part(rows[:3])
    writer.write_part(rows[3:])
    victim = sorted(store.layout.parts_folder(spec).iterdir())[1]
    data = victim.read_bytes()
    victim.write_bytes(
        {"truncate": data[:-20], "flip": data.replace(b"task-2", b"task-1"), "empty": b"", "garbage": b"\xff\xfe{"}[
            damage
        ]
    )
    assert len(store.open(spec, ORIGIN).done) == 3
    assert count_part_rows(store.layout.parts_folder(spec)) == 3


@pytest.mark.parametrize("damage", ["shard_truncated", "shard_missing", "manifest_garbage", "manifest_foreign"])
def test_a_damaged_shard_counts_as_not_there(tmp_path: Path, damage: str) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    writer.seal()
    shard, manifest = store.layout.shard_file(spec), store.layout.manifest_file(spec)
    match damage:
        case "shard_truncated":
            shard.write_bytes(shard.read_bytes()[:-5])
        case "shard_missing":
            shard.unlink()
        case "manifest_garbage":
            manifest.write_text("{")
        case "manifest_foreign":
            manifest.write_text('{"hello": 1}')
    assert store.manifest(spec) is None
    assert store.open(spec, ORIGIN).done == frozenset()


def test_a_kill_between_shard_and_manifest_keeps_the_parts(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    atomic_write_bytes(store.layout.shard_file(spec), b"whatever was there\n")
    again = store.open(spec, ORIGIN)
    assert len(again.done) == 6
    again.seal()
    assert store.rows(spec) == make_rows(spec)


def test_error_rows_are_sealed_but_not_done(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    good, bad = (
        make_rows(spec)[:-1],
        make_rows(spec)[-1] | {"error": "verification: no sandbox", "exploit_success": None},
    )
    writer = store.open(spec, ORIGIN)
    writer.write_part([*good, bad])
    assert len(writer.done) == 5
    writer.seal([bad])
    assert store.manifest(spec) is not None
    assert not store.is_complete(spec)
    again = store.open(spec, ORIGIN)
    assert len(again.done) == 5
    again.write_part([make_rows(spec)[-1]])
    again.seal()
    assert store.is_complete(spec)
    assert store.rows(spec) == make_rows(spec)


def test_temporary_files_of_killed_writers_are_swept(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec)[:2])
    for folder in (store.layout.shard_folder(spec), store.layout.parts_folder(spec)):
        left = folder / ".left.jsonl.host-1.tmp"
        left.write_text("half a li")
        os.utime(left, (0, 0))  # a fresh one of another machine may still be written
    store.open(spec, ORIGIN).seal()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_shard_of_other_settings_is_another_file(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    writer.seal()
    hotter = replace(spec, sampling=SamplingParams(temperature=0.5))
    assert store.manifest(hotter) is None
    assert store.layout.shard_file(hotter) != store.layout.shard_file(spec)


def test_manifests_read_with_plain_json(tmp_path: Path) -> None:
    spec, store = make_spec(), ShardStore(RunLayout(tmp_path))
    writer = store.open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    written = writer.seal()
    path = store.layout.manifest_file(spec)
    assert json.loads(path.read_text())["spec_key"] == spec.key()
    assert ShardManifest.read(path) == written
