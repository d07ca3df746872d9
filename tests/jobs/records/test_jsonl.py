"""Reading names file and line; writing is whole or not at all."""

from __future__ import annotations

import math
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.durable import sweep_temporaries
from foreshock.errors import InputError
from foreshock.jobs.records import jsonl

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(rows=st.lists(st.dictionaries(st.text(), JSON_VALUES), max_size=4))
def test_rows_read_back_as_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.jsonl"
    jsonl.write_jsonl(path, rows)
    assert [row for _, row in jsonl.read_jsonl(path)] == rows


def test_lone_surrogates_survive(tmp_path: Path) -> None:
    jsonl.write_jsonl(tmp_path / "x.jsonl", [{"response": "\ud800 broken"}])
    assert jsonl.read_rows(tmp_path / "x.jsonl") == [{"response": "\ud800 broken"}]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_that_json_lacks_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsonl.write_jsonl(tmp_path / "x.jsonl", [{"a": value}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b'{"a": 1}\n{"a": ', 2, "truncated"),
        (b'{"a": 1}\n\n[1]\n', 3, "expected a JSON object, found list"),
        (b'{"a": 1}\nnot json\n', 2, "not valid JSON"),
        (b'\xff\xfe{"a": 1}\n', 1, "not UTF-8"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: bytes, line: int, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        list(jsonl.read_jsonl(path))
    assert caught.value.line == line
    assert f"x.jsonl:{line}:" in str(caught.value)


def test_missing_keys_are_named_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"task": 1}\n')
    with pytest.raises(InputError, match=r"x\.jsonl:1: row lacks task_id; needed: task_id; found: task"):
        jsonl.read_rows(path, ["task_id"])


def test_a_missing_file_and_a_directory_are_clear(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(jsonl.read_jsonl(tmp_path / "absent.jsonl"))
    with pytest.raises(InputError, match="is a directory"):
        list(jsonl.read_jsonl(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        jsonl.read_json(tmp_path / "absent.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    jsonl.write_jsonl(path, [{"a": 1}])
    with pytest.raises(TypeError):
        jsonl.write_jsonl(path, [{"a": object()}])
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]
    assert jsonl.read_rows(path) == [{"a": 1}]


def test_json_errors_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{\n "a": }\n')
    with pytest.raises(InputError, match=r"x\.json:2: not valid JSON"):
        jsonl.read_json(path)


def test_sweeping_spares_what_another_live_process_writes(tmp_path: Path) -> None:
    host = socket.gethostname()
    ended = subprocess.Popen(["true"])
    ended.wait()
    stale = [f".a.jsonl.{host}-{ended.pid}.tmp", f".a.jsonl.{host}-{os.getpid()}.tmp", ".b.jsonl.other-1.tmp", ".x.tmp"]
    live = [f".a.jsonl.{host}-{os.getppid()}.tmp", ".c.jsonl.other-1.tmp"]
    for name in stale + live:
        (tmp_path / name).touch()
    os.utime(tmp_path / ".b.jsonl.other-1.tmp", (0, 0))
    assert sweep_temporaries(tmp_path) == len(stale)
    assert {path.name for path in tmp_path.iterdir()} == set(live)
