"""Bundles hold what was sealed, to the byte, whenever whoever makes them is killed and whoever reads meanwhile."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_writes import die_at

from foreshock.errors import ForeshockError
from foreshock.jobs.records import bundles, bundling
from foreshock.jobs.records.bundles import Bundle, Bundles, in_chunks
from foreshock.jobs.records.bundling import Bundling, bundle_run, bundle_shards
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.sealed_log import sealed_logs
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

ORIGIN = Origin("abc1234", None, 1)


def make_spec(number: int) -> JobSpec:
    return JobSpec(
        JobKind.EVAL, Checkpoint("sft", number // 2, Path("/nowhere")), (10,), (f"task-{number}",), (0, 1),
        SamplingParams(), "plain", "t", "m", "p", "q", "builtin", 1, number,
    )  # fmt: skip


def make_rows(spec: JobSpec) -> list[Row]:
    place = {"checkpoint": spec.checkpoint.name, "prefill_level": 10, "prefill_sha256": "s"}
    return [
        {**place, "task_id": task, "attempt_idx": i, "exploit_success": i == 0, "response": "x\u2028\ud800" * i}
        for task in spec.task_ids
        for i in spec.attempts
    ]


def seal(layout: RunLayout, spec: JobSpec) -> None:
    writer = ShardStore(layout).open(spec, ORIGIN)
    writer.write_part(make_rows(spec))
    writer.seal()


SPECS = [make_spec(number) for number in range(5)]


@pytest.fixture(scope="module")
def sealed_run(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    """Five sealed shards of three cells."""
    layout = RunLayout(tmp_path_factory.mktemp("sealed"))
    for spec in SPECS:
        seal(layout, spec)
    return layout


@pytest.fixture
def layout(sealed_run: RunLayout, tmp_path: Path) -> RunLayout:
    return copy_of(sealed_run, tmp_path / "run")


def copy_of(run: RunLayout, to: Path) -> RunLayout:
    shutil.copytree(run.root, to)
    return RunLayout(to)


def fail(text: str) -> None:
    raise AssertionError(text)


def bundle(layout: RunLayout, specs: list[JobSpec] | None = None) -> ShardStore:
    store = ShardStore(layout)
    bundle_shards(store, SPECS if specs is None else specs, fail)
    return store


def files(layout: RunLayout) -> list[str]:
    return sorted(str(path.relative_to(layout.shards)) for path in layout.shards.rglob("*"))


def require_whole(layout: RunLayout) -> None:
    store = ShardStore(layout)
    for spec in SPECS:
        assert store.is_complete(spec)
        assert store.rows(spec) == make_rows(spec)


@pytest.fixture(scope="module")
def n_events(sealed_run: RunLayout, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Operations on files that bundling the run takes."""
    return bundle_and_die(copy_of(sealed_run, tmp_path_factory.mktemp("counted") / "run"), 0)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_kill_at_any_point_loses_nothing_and_the_next_one_finishes(
    sealed_run: RunLayout, n_events: int, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    layout = copy_of(sealed_run, tmp_path_factory.mktemp("killed") / "run")
    for _ in range(2):
        bundle_and_die(layout, data.draw(st.integers(1, n_events)))
        require_whole(layout)
    bundle_run(layout, SPECS, fail)
    require_whole(layout)
    assert [name for name in files(layout) if not name.endswith(".zip")] == ["bundles", "eval"]
    assert not sealed_logs(layout)
    shutil.rmtree(layout.root)


def bundle_and_die(layout: RunLayout, at: int) -> int:
    """Bundle in a process that ends before its Nth operation on files; returns how many it began."""
    return die_at(lambda: bundle_run(layout, SPECS, lambda _: None), at)


def test_single_and_bundled_shards_read_alike(sealed_run: RunLayout, layout: RunLayout) -> None:
    single, store = ShardStore(sealed_run), bundle(layout)
    assert len(files(layout)) == 3
    for reader in (store, ShardStore(layout)):
        for spec in SPECS:
            assert reader.manifest(spec) == single.manifest(spec)
            assert reader.rows(spec) == single.rows(spec)
            assert reader.is_complete(spec)
            assert reader.open(spec, ORIGIN).done == single.open(spec, ORIGIN).done
            assert reader.bundles.known[spec.key()].sealed == single.manifest(spec).sealed()
        assert reader.manifest(make_spec(99)) is None
        assert not reader.is_complete(make_spec(99))


def test_unzip_brings_the_single_files_back(sealed_run: RunLayout, layout: RunLayout) -> None:
    before = {path: path.read_bytes() for path in sealed_run.shards.rglob("*.json*")}
    bundle(layout)
    (archive,) = layout.bundles.iterdir()
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        opened.extractall(layout.shards)
    archive.unlink()
    assert {p: (layout.shards / p.relative_to(sealed_run.shards)).read_bytes() for p in before} == before
    require_whole(layout)


def test_errors_strays_and_what_is_not_sealed_stay_as_they_are(layout: RunLayout) -> None:
    with_error, begun, changed = make_spec(10), make_spec(11), SPECS[0]
    writer = ShardStore(layout).open(with_error, ORIGIN)
    writer.write_part(make_rows(with_error)[:1])
    writer.seal([make_rows(with_error)[1] | {"error": "generation: lost"}])
    ShardStore(layout).open(begun, ORIGIN).write_part(make_rows(begun)[:1])
    shard = layout.shard_file(changed)
    shard.write_bytes(shard.read_bytes().replace(b"task-0", b"task-9"))
    store = bundle(layout, [*SPECS, with_error, begun])
    assert store.manifest(with_error).n_errors == 1
    assert len(store.open(begun, ORIGIN).done) == 1
    assert not store.is_complete(changed)
    bundle(layout, [changed])
    assert len(list(layout.bundles.iterdir())) == 1  # none without a shard
    assert [spec.key() in store.bundles.known for spec in SPECS] == [False, True, True, True, True]
    seal(layout, changed)
    again = ShardStore(layout).open(with_error, ORIGIN)
    again.write_part(make_rows(with_error)[1:])
    again.seal()
    bundle(layout, [*SPECS, with_error])
    require_whole(layout)
    assert ShardStore(layout).rows(with_error) == make_rows(with_error)


def test_a_reader_finds_what_was_bundled_after_it_looked(layout: RunLayout) -> None:
    reader, nobody = ShardStore(layout), make_spec(99)
    assert all(map(reader.is_complete, SPECS))
    for part in (SPECS[:2], SPECS[2:]):  # both within the precision of the folder's time of change, as may be
        for path in layout.bundles.parent.glob("bundles"):
            os.utime(path, (time.time(), 1_000_000_000))
        assert not reader.is_complete(nobody)
        bundle(layout, part)
        assert all(map(reader.is_complete, SPECS))
        assert [reader.rows(spec) for spec in part] == [make_rows(spec) for spec in part]


def test_a_folder_that_has_not_changed_for_long_is_not_listed_again(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(layout)
    os.utime(layout.bundles, (1, 1))
    bundles = Bundles(layout.bundles)
    assert len(bundles.known) == len(SPECS)
    monkeypatch.setattr(os, "listdir", lambda path: fail(f"{path} was listed"))
    assert not bundles.renew()


def test_a_writer_who_comes_late_reads_its_rows_from_the_bundle(layout: RunLayout) -> None:
    spec = make_spec(12)
    late, other = ShardStore(layout).open(spec, ORIGIN), ShardStore(layout).open(spec, ORIGIN)
    late.write_part(make_rows(spec))
    other.write_part(make_rows(spec))
    other.seal()
    bundle(layout, [spec])
    assert late.seal().n_records == 2  # the parts that it knew of are gone
    assert ShardStore(layout).rows(spec) == make_rows(spec)
    bundle(layout, [spec])
    assert not layout.shard_folder(spec).exists()
    assert ShardStore(layout).rows(spec) == make_rows(spec)


def test_two_who_bundle_the_same_shards_cost_only_room(layout: RunLayout, tmp_path: Path) -> None:
    twin = copy_of(layout, tmp_path / "twin")
    bundle(layout)
    bundle(twin)
    shutil.copytree(twin.bundles, layout.bundles, dirs_exist_ok=True)
    assert len(list(layout.bundles.iterdir())) == 2
    require_whole(layout)
    next(iter(layout.bundles.iterdir())).write_bytes(b"")
    require_whole(layout)


@pytest.mark.parametrize("damage", ["cut", "no archive", "index", "shard", "manifest", "gone"])
def test_what_is_damaged_in_a_bundle_is_not_there_and_can_be_done_again(layout: RunLayout, damage: str) -> None:
    bundle(layout)
    (path,) = layout.bundles.iterdir()
    data, found = path.read_bytes(), Bundle.read(path)
    match damage:
        case "cut":
            path.write_bytes(data[:-3])
        case "no archive":
            path.write_bytes(b"PK")
        case "index":
            path.write_bytes(data.replace(b'"mtime_ns"', b'"mtime_nz"'))
        case "shard":
            path.write_bytes(data.replace(b"task-3", b"task-9"))
        case "manifest":
            start, size = found.manifests[3]
            path.write_bytes(data[:start] + b"x" * size + data[start + size :])
        case "gone":
            path.unlink()
    os.utime(layout.bundles, (1, 1))
    whole = [number for number, spec in enumerate(SPECS) if ShardStore(layout).is_complete(spec)]
    assert whole == ([0, 1, 2, 4] if damage in ("shard", "manifest") else [])
    for number in set(range(5)) - set(whole):
        seal(layout, SPECS[number])
    require_whole(layout)
    bundle(layout)  # what is good is not thrown away for what is damaged
    require_whole(layout)
    assert [name for name in files(layout) if not name.endswith(".zip")] == ["bundles", "eval"]


def test_a_copy_that_lost_its_times_is_read_by_checksums(layout: RunLayout) -> None:
    bundle(layout)
    (path,) = layout.bundles.iterdir()
    assert path.stat().st_mtime_ns % (2 * 10**9) == 0  # which the coarsest file systems keep
    os.utime(path, (5, 5))
    assert Bundle.read(path).is_as_written is False
    require_whole(layout)


@pytest.mark.parametrize("refused", ["utime", "fsync of folders"])
def test_file_systems_that_refuse_get_the_same_bundles(
    layout: RunLayout, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    if refused == "utime":
        monkeypatch.setattr(os, "utime", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    else:
        monkeypatch.setattr(bundling, "sync_directory", lambda _: False)
        monkeypatch.setattr(os, "sync", lambda: synced.append(layout.shard_file(SPECS[0]).is_file()))
    bundle(layout)
    require_whole(layout)
    assert synced == ([] if refused == "utime" else [True])  # before anything was removed


def test_no_room_leaves_everything_as_it_was(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    before, said = files(layout), []
    monkeypatch.setattr(bundling, "write_bundle", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    bundle_shards(ShardStore(layout), SPECS, said.append)
    assert files(layout) == before
    assert said == ["sealed shards stay files of their own for now: [Errno 28] No space left"]


def test_a_worker_bundles_when_enough_is_sealed(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "MOST_SHARDS", 2)
    store = ShardStore(layout)
    worker = Bundling(store, [*SPECS, *(replace(spec, shard_index=90) for spec in SPECS)], 16, fail)
    worker.sealed(1)
    assert not layout.bundles.exists()
    worker.sealed(1)
    assert len(list(layout.bundles.iterdir())) == 3  # of two shards, two and one
    assert not sealed_logs(layout)
    require_whole(layout)
    seal(layout, make_spec(20))
    worker.join()
    assert len(list(layout.bundles.iterdir())) == 3  # one shard is left to the end of the run


def test_a_bundle_of_another_format_is_refused_not_taken_for_missing_shards(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "_FORMAT", 2)
    bundle(layout)
    monkeypatch.undo()
    with pytest.raises(ForeshockError, match="bundle of format 2; this version reads format 1"):
        ShardStore(layout).rows(SPECS[0])


def test_a_bundle_that_may_not_be_read_is_refused_not_taken_for_missing_shards(
    layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another user's `resume` would compute all of it again."""
    bundle_run(layout, SPECS)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ForeshockError, match=r"may not be read by this user(?s:.*)chmod u\+r"):
        Bundles(layout.bundles).renew()


@given(sizes=st.lists(st.integers(0, 20)), most=st.integers(1, 5), most_bytes=st.integers(1, 30))
def test_chunks_hold_every_shard_once_within_both_bounds(sizes: list[int], most: int, most_bytes: int) -> None:
    chunks = list(in_chunks(sizes, most, most_bytes))
    assert [place for chunk in chunks for place in chunk] == list(range(len(sizes)))
    assert all(len(chunk) <= most for chunk in chunks)
    assert all(len(chunk) == 1 or sum(sizes[place] for place in chunk) <= most_bytes for chunk in chunks)
