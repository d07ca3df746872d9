"""Tables read the same from files of their own and from archives, whoever is killed or writes meanwhile."""

from __future__ import annotations

import errno
import io
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killed_writes import die_at

from foreshock.errors import DiskFullError, InputError
from foreshock.jobs.records import table_archives, table_files
from foreshock.jobs.records.archive_index import Archive, directory_comment, n_members
from foreshock.jobs.records.jsonl import read_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.table_archives import TableArchives, join_tables, remove_replaced
from foreshock.jobs.records.table_files import (
    archives_of,
    has_table,
    is_archived,
    open_raw,
    open_table,
    table_bytes,
    table_names,
    table_size,
    table_state,
)

NAMES = [f"checkpoint-{step}_prefill0.jsonl{end}" for step in range(4) for end in ("", ".samples.jsonl")]
OLD, NEW = ({name: f'{{"age": "{age}", "of": "{name}"}}\n'.encode() for name in NAMES} for age in ("old", "new"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: table_bytes(folder / name) for name in table_names(folder) if name.endswith(".jsonl")}


def read(path: Path) -> bytes:
    with open_table(path) as file:
        return file.read()


def archives(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.zip"))


def write(folder: Path, tables: dict[str, bytes]) -> None:
    with TableArchives() as written:
        for name, data in tables.items():
            written.add(folder / name, data)


def write_in_two_groups(folder: Path, tables: dict[str, bytes]) -> None:
    written = TableArchives()
    for part in (NAMES[:4], NAMES[4:]):
        with written:
            for name in part:
                written.add(folder / name, tables[name])
    remove_replaced(folder, all_anew=True)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Old tables: archived in other groups than they will be, and some in files of their own."""
    folder = tmp_path_factory.mktemp("before") / "evals"
    write(folder, {name: OLD[name] for name in NAMES[1:3]})
    write(folder, {name: OLD[name] for name in NAMES[3:]})
    for name in (NAMES[0], NAMES[5]):
        (folder / name).write_bytes(OLD[name])
    return folder


@pytest.fixture(scope="module")
def n_events(before: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Operations on files that writing all tables anew takes."""
    folder = Path(shutil.copytree(before, tmp_path_factory.mktemp("counted") / "evals"))
    return die_at(lambda: write_in_two_groups(folder, NEW), 0)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_kill_at_any_point_leaves_old_or_new_and_the_next_one_finishes(
    before: Path, n_events: int, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(shutil.copytree(before, tmp_path_factory.mktemp("killed") / "evals"))
    for _ in range(2):
        die_at(lambda: write_in_two_groups(folder, NEW), data.draw(st.integers(1, n_events)))
        found = contents(folder)
        assert found.keys() == OLD.keys()
        assert all(found[name] in (OLD[name], NEW[name]) for name in NAMES)
    write_in_two_groups(folder, NEW)
    assert contents(folder) == NEW
    assert len(archives(folder)) == 4
    assert not list(folder.glob("*.jsonl"))
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["single", "archive", "join", "tidy", "unzip"]),
            st.sets(st.sampled_from(NAMES), min_size=1),
        ),
        max_size=8,
    )
)
def test_whatever_was_written_last_is_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, set[str]]]
) -> None:
    folder = tmp_path_factory.mktemp("model") / "evals"
    folder.mkdir()
    known: dict[str, bytes] = {}
    for number, (what, chosen) in enumerate(steps):
        new = {name: f"{number} {name}\n".encode() for name in sorted(chosen)}
        if what == "single":
            for name, data in new.items():
                (folder / name).write_bytes(data)
            known |= new
        elif what == "archive":
            write(folder, new)
            known |= new
        elif what == "join":
            join_tables(folder, 1)
        elif what == "tidy":
            remove_replaced(folder)
        elif not list(folder.glob("*.jsonl")):
            for archive in archives(folder):  # in the order of their generations
                for name in zipfile.ZipFile(folder / archive).namelist():
                    if archives_of([folder / name]) == [folder / archive]:
                        zipfile.ZipFile(folder / archive).extract(name, folder)
        assert contents(folder) == known
        assert all(has_table(folder / name) == (name in known) for name in NAMES)
        assert {name: table_size(folder / name) for name in known} == {n: len(data) for n, data in known.items()}
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["read", "seek", "end", "line", "into"]), st.integers(0, 70)), max_size=12))
def test_a_table_in_an_archive_is_read_like_a_file(before: Path, steps: list[tuple[str, int]]) -> None:
    path, like = before / NAMES[1], io.BytesIO(OLD[NAMES[1]])
    with open_table(path) as found:
        for what, n in steps:
            match what:
                case "read":
                    assert found.read(n) == like.read(n)
                case "seek":
                    assert found.seek(n) == like.seek(n)
                case "end":
                    assert found.seek(-min(n, 20), os.SEEK_END) == like.seek(-min(n, 20), os.SEEK_END)
                case "line":
                    assert found.readline() == like.readline()
                case "into":
                    one, other = bytearray(n), bytearray(n)
                    assert found.readinto(one) == like.readinto(other)
                    assert one == other
            assert found.tell() == like.tell()
    with open_raw(path) as raw:
        assert raw.readall() == OLD[NAMES[1]]


def test_unzip_brings_the_files_back(before: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evals"
    write_in_two_groups(folder, NEW)
    for name in archives(folder):
        with zipfile.ZipFile(folder / name) as archive:
            assert archive.testzip() is None
            archive.extractall(folder)
        (folder / name).unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == NEW
    assert contents(folder) == NEW


def test_cells_and_rows_are_found_by_the_same_names(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    write(layout.evals, NEW)
    assert [file.cell.checkpoint for file in layout.eval_files()] == [f"checkpoint-{step}" for step in range(4)]
    path = layout.samples_file("checkpoint-2", 0)
    assert list(read_jsonl(path)) == [(1, {"age": "new", "of": path.name})]
    with pytest.raises(InputError, match=r"no such file"):
        list(read_jsonl(layout.samples_file("checkpoint-9", 0)))


def test_a_reader_finds_what_was_replaced_after_it_looked(tmp_path: Path) -> None:
    folder, path = tmp_path / "evals", tmp_path / "evals" / NAMES[0]
    write(folder, OLD)
    os.utime(folder, (0, 0))  # old enough to be trusted
    first, state = contents(folder), table_state(path)
    write(folder, NEW)
    assert (first, contents(folder)) == (OLD, NEW)
    assert table_state(path) != state
    assert read(path) == NEW[NAMES[0]]


def test_a_folder_whose_time_did_not_move_is_looked_at_again_when_its_archive_is_gone(tmp_path: Path) -> None:
    """Coarse times, or a server's clock that is behind: what was just changed looks long unchanged."""
    folder = tmp_path / "evals"
    write(folder, OLD)
    os.utime(folder, (0, 0))
    assert contents(folder) == OLD
    write(folder, NEW)
    os.utime(folder, (0, 0))
    assert table_state(folder / NAMES[1]).size == len(NEW[NAMES[1]])
    assert {name: table_bytes(folder / name) for name in NAMES} == NEW


def test_a_writer_who_saw_less_takes_nothing_from_another(tmp_path: Path) -> None:
    """`foreshock watch` and a run's last job may write tables of one run at the same time."""
    folder = tmp_path / "evals"
    write(folder, OLD)
    slow = TableArchives()
    slow.add(folder / NAMES[0], NEW[NAMES[0]])
    write(folder, NEW)
    slow.commit()
    assert contents(folder) == NEW
    remove_replaced(folder)
    assert contents(folder) == NEW


def test_a_file_that_changed_while_it_was_joined_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = tmp_path / "evals", tmp_path / "evals" / NAMES[0]
    folder.mkdir()
    path.write_bytes(b"old\n")
    finish = table_archives._Archive.finish

    def late(self: table_archives._Archive) -> None:
        finish(self)
        path.with_suffix(".new").write_bytes(b"newer\n")
        path.with_suffix(".new").replace(path)

    monkeypatch.setattr(table_archives._Archive, "finish", late)
    join_tables(folder, 1)
    assert path.read_bytes() == b"newer\n" == read(path)


def test_large_tables_and_few_stay_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_archives, "LARGEST", 10)
    write(tmp_path, {})
    for name, size in (("checkpoint-1.jsonl", 10), ("checkpoint-2.jsonl", 11)):
        (tmp_path / name).write_bytes(b"x" * size)
    join_tables(tmp_path, 2)
    assert not archives(tmp_path)
    join_tables(tmp_path, 1)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["checkpoint-2.jsonl"]
    assert table_names(tmp_path) == ["checkpoint-1.jsonl", "checkpoint-2.jsonl"]
    archived = TableArchives()
    archived.write(tmp_path / "checkpoint-1.jsonl", b"y" * 11)
    archived.commit()
    assert (tmp_path / "checkpoint-1.jsonl").read_bytes() == table_bytes(tmp_path / "checkpoint-1.jsonl")


def all_of(folder: Path) -> dict[str, bytes]:
    """As a reader that has seen nothing of the folder."""
    table_files._folders.clear()
    return contents(folder)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(
    before: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever it is: in a table's rows, in a name, in ZIP's directory, in the comment."""
    folder = Path(shutil.copytree(before, tmp_path_factory.mktemp("flipped") / "evals"))
    known = all_of(folder)
    archive = folder / data.draw(st.sampled_from(archives(folder)))
    whole = bytearray(archive.read_bytes())
    at = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(-400, -1).map(len(whole).__add__)))
    whole[at] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(whole)
    said = ""
    try:
        assert all_of(folder) == known
    except InputError as error:
        said = str(error)
    assert not said or (str(archive) in said and ("aggregate" in said or "use the version of foreshock" in said))
    write_in_two_groups(folder, NEW)
    assert all_of(folder) == NEW
    assert {path.name for path in folder.glob("*.damaged")} <= {f"{archive.name}.damaged"}
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", ["cut", "no archive", "empty", "folder", "loop"])
def test_a_damaged_archive_is_named_and_never_taken_for_fewer_cells(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "evals"
    write(folder, OLD)
    archive = folder / archives(folder)[1]
    whole = archive.read_bytes()
    archive.unlink()
    if damage == "folder":
        archive.mkdir()
    elif damage == "loop":
        archive.symlink_to(archive)
    else:
        archive.write_bytes({"cut": whole[:-30], "no archive": b"x" * 99, "empty": b""}[damage])
    for look in (table_names, lambda _: has_table(folder / NAMES[0]), lambda _: read(folder / NAMES[0])):
        with pytest.raises(InputError, match=r"(damaged|cannot be read)(?s:.*)foreshock aggregate RUN"):
            look(folder)
    write_in_two_groups(folder, NEW)
    assert contents(folder) == NEW
    assert not archive.exists()
    assert [path.name for path in folder.glob("*.damaged")] == [f"{archive.name}.damaged"]


def rezipped(archive: Path, tables: dict[str, bytes], comment: bytes | None, how: int) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", how) as other:
        warnings.simplefilter("ignore")
        for name, data in tables.items():
            other.writestr(zipfile.ZipInfo(name.removesuffix(" again")), data, how)
        other.comment = directory_comment(other.filelist) if comment is None else comment


@pytest.mark.parametrize(
    ("tables", "comment", "how", "said"),
    [
        ({NAMES[1]: b"1\n"}, None, zipfile.ZIP_DEFLATED, r"compressed(?s:.*)unzip"),
        ({NAMES[1]: b"1\n"}, b"", zipfile.ZIP_STORED, r"did not write it(?s:.*)unzip"),
        (
            {NAMES[1]: b"1\n"},
            b"foreshock tables 2 00000000",
            zipfile.ZIP_STORED,
            r"format 2; this version reads format 1",
        ),
        ({NAMES[1]: b"1\n"}, b"foreshock tables 1 00000000", zipfile.ZIP_STORED, r"directory is not as it was written"),
        ({NAMES[1]: b"1\n", f"{NAMES[1]} again": b"2\n"}, None, zipfile.ZIP_STORED, r"twice"),
        ({f"evals/{NAMES[1]}": b"1\n"}, None, zipfile.ZIP_STORED, r"names a file of another folder"),
        ({".hidden.jsonl": b"1\n"}, None, zipfile.ZIP_STORED, r"names a file of another folder"),
    ],
)
def test_what_foreshock_did_not_write_is_refused_by_name(
    tmp_path: Path, tables: dict[str, bytes], comment: bytes | None, how: int, said: str
) -> None:
    write(tmp_path, OLD)
    archive = tmp_path / archives(tmp_path)[0]
    rezipped(archive, tables, comment, how)
    with pytest.raises(InputError, match=said):
        all_of(tmp_path)


def test_a_generation_of_any_length_is_read_and_followed(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    for name in archives(tmp_path):
        (tmp_path / name).rename(tmp_path / name.replace("-000001-", "-999999-"))
    write(tmp_path, {NAMES[0]: NEW[NAMES[0]]})
    assert contents(tmp_path) == OLD | {NAMES[0]: NEW[NAMES[0]]}


def test_an_archive_put_in_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    """As when a damaged one is copied again, while `foreshock view` goes on."""
    write(tmp_path, OLD)
    archive = tmp_path / archives(tmp_path)[0]
    whole = archive.read_bytes()
    assert contents(tmp_path) == OLD
    archive.write_bytes(whole.replace(b'"age": "old"', b'"age": "odd"'))
    with pytest.raises(InputError, match=r"checksum"):
        contents(tmp_path)
    archive.unlink()
    archive.write_bytes(whole)
    assert contents(tmp_path) == OLD


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    incomplete = {name: NEW[name] for name in NAMES[:2]}
    with pytest.raises(KeyError):
        write_in_two_groups(tmp_path, incomplete)
    assert contents(tmp_path) == OLD
    assert not list(tmp_path.glob(".*"))
    assert is_archived(tmp_path / NAMES[0])


@pytest.mark.parametrize("late", [False, True])
def test_a_full_disk_is_said_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    write(tmp_path, OLD)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "_write_end_record" if late else "writestr", full)
    with pytest.raises(DiskFullError):
        write_in_two_groups(tmp_path, NEW)
    monkeypatch.undo()
    assert contents(tmp_path) == OLD
    assert not list(tmp_path.glob(".*"))


def test_other_archives_are_nobodys_tables(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "backup.zip", "w") as other:
        other.writestr(NAMES[0], b"mine")
    assert table_names(tmp_path) == ["backup.zip"]
    assert not has_table(tmp_path / NAMES[0])
    with pytest.raises(FileNotFoundError):
        read(tmp_path / NAMES[0])


def test_archives_that_are_replaced_while_they_are_listed_hide_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OLD)
    replaced = iter([True, False])
    read_archive = table_files.read_archive

    def late(path: Path) -> Archive:
        if next(replaced, False):
            write(tmp_path, NEW)
        return read_archive(path)

    monkeypatch.setattr(table_files, "read_archive", late)
    assert all_of(tmp_path) == NEW


@pytest.mark.parametrize("n", [1, 3])
def test_an_archive_says_how_many_tables_it_holds_without_being_looked_into(tmp_path: Path, n: int) -> None:
    write(tmp_path, dict.fromkeys(NAMES[: 2 * n : 2], b"1"))
    archive = tmp_path / archives(tmp_path)[0]
    assert n_members(archive) == n
    whole = archive.read_bytes()
    at = whole.rindex(b"PK\5\6") + 10
    for other in (whole[:-1], b"", whole[:at] + b"\xff\xff" + whole[at + 2 :]):  # the last: ZIP64 has the number
        archive.write_bytes(other)
        assert n_members(archive) is None
