"""Tables appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.aggregate.files import LevelTables, Table, blocks_of_lines
from foreshock.jobs.records.places import Place


def at_once(finish: Callable[[], None]) -> None:
    finish()


def test_a_table_holds_its_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table"
    with Table(path) as table:
        for number in range(1000):
            table.write(b"%d\n" % number, 1)
        table.write(b"x" * (1 << 20) + b"\ny\n", 2)
    assert table.n_rows == 1002
    assert path.read_bytes() == b"".join(b"%d\n" % n for n in range(1000)) + b"x" * (1 << 20) + b"\ny\n"


def test_without_a_line_there_is_no_file_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with Table(path):
        pass
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old\n")
    with Table(path):
        pass
    assert path.read_bytes() == b"old\n"


def test_an_error_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(b"old\n")

    def fail() -> None:
        with Table(path) as table:
            for _ in range(1000):
                table.write(b"new\n", 1)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("table", b"old\n")]


def test_an_error_leaves_the_tables_of_all_levels(tmp_path: Path) -> None:
    def fail() -> None:
        with LevelTables(lambda level: tmp_path / level.decode(), at_once) as tables:
            for level in (b"2", b"5"):
                for _ in range(1000):
                    tables[level].write(b"new\n", 1)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_levels_have_tables_of_their_own(tmp_path: Path) -> None:
    with LevelTables(lambda level: tmp_path / level.decode(), at_once) as tables:
        for level in (b"2", b"5", b"2"):
            tables[level].write(level + b"\n", 1)
    assert {level: table.n_rows for level, table in tables.items()} == {b"2": 2, b"5": 1}
    assert (tmp_path / "2").read_bytes() == b"2\n2\n"


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    last=st.sampled_from([b"", b"not ended"]),
    n_bytes=st.integers(1, 100),
)
def test_blocks_hold_whole_lines_and_all_of_them(lines: list[bytes], last: bytes, n_bytes: int) -> None:
    whole = b"".join(line + b"\n" for line in lines) + last
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_bytes(whole)
        blocks = [bytes(block) for block in blocks_of_lines(Place.whole(path), n_bytes)]
    assert b"".join(blocks) == whole
    assert all(block.endswith(b"\n") for block in blocks[: -1 if last else None])
