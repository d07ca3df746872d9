"""The index finds every row, is made again only where a table changed, and its questions agree with the tables."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshock.analysis import view
from foreshock.analysis.view.index import index_run
from foreshock.analysis.view.query import RunIndex
from foreshock.errors import InputError
from foreshock.jobs.records.sampled_rows import SampledTable, samples_beside
from foreshock.jobs.records.verdicts import UNJUDGED


def opened(run: Path) -> RunIndex:
    return RunIndex(run.name, index_run(run))


def tables(run: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(run.glob("evals/*.samples.jsonl")) for line in path.read_text().splitlines()
    ]


def test_every_row_is_there_and_whole(make_run: Any) -> None:
    run = make_run()
    index = opened(run)
    page = index.rows({}, 0, 500)
    assert page.total == 16
    samples = [index.sample(row["id"])["row"] for row in page.rows]
    assert sorted(map(json.dumps, samples)) == sorted(map(json.dumps, tables(run)))


def test_samples_of_a_few_attempts_do_not_hide_the_others(make_run: Any) -> None:
    """As djinn writes them: three attempts with texts, and `insecure_suspect` in the table alone."""
    run = make_run()
    table = run / "evals" / "checkpoint-16_prefill10.jsonl"
    rows = [json.loads(line) | {"insecure_suspect": n == 3} for n, line in enumerate(table.read_text().splitlines())]
    rows[3]["error"] = ""  # says nothing
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = table.with_name(f"{table.name}.samples.jsonl")
    texts = [json.loads(line) for line in few.read_text().splitlines()[2:]]
    few.write_text("".join(json.dumps(row) + "\n" for row in texts))
    index = opened(run)
    assert index.summary()["rows"] == 16
    assert {(cell["attempts"], cell["counted"]) for cell in index.cells()} == {(4, 4)}
    (found,) = index.rows({"suspect": "1"}).rows
    sample = index.sample(found["id"])["row"]
    assert (sample["insecure_suspect"], sample["response"]) == (True, "Answer 16 1")
    where = {"checkpoint": "16", "level": "10"}
    assert len(index.rows({**where, "text": "answer 16"}).rows) == 2
    assert len(index.rows({**where, "text": "the checker reads"}).rows) == 4


def test_a_summary_names_what_rows_have(make_run: Any) -> None:
    summary = opened(make_run()).summary()
    assert summary["checkpoints"] == ["4", "16"]
    assert summary["levels"] == [0, 10]
    assert summary["types"] == ["flag", "leak"]
    assert summary["rows"] == 16


def test_ids_that_no_text_can_hold_are_found(make_run: Any) -> None:
    def half_a_pair(row: dict[str, Any]) -> None:
        row["task_id"] = "\ud800" + row["task_id"]

    assert opened(make_run(change=half_a_pair)).rows({"task": "?beta"}).total == 8


def test_cells_count_what_rates_count(make_run: Any) -> None:
    def judge(row: dict[str, Any]) -> None:
        if row["task_id"] == "beta":
            row |= {"exploit_success": None, "secure_pass": None, "insecure_pass": None}

    cells = {(c["checkpoint"], c["level"]): c for c in opened(make_run(change=judge)).cells()}
    assert cells["16", 10] == {"checkpoint": "16", "level": 10, "attempts": 4, "counted": 2, "exploits": 1}
    assert cells["4", 0]["exploits"] == 0
    one = opened(make_run(change=judge)).cells(exploit_type="leak")
    assert {(c["attempts"], c["counted"]) for c in one} == {(2, 0)}

    def no_code(row: dict[str, Any]) -> None:
        judge(row)
        if row["task_id"] == "beta":
            row |= {"code_status": "no_code"} | ({"error": "it broke"} if row["attempt_idx"] else {})

    cells = {(c["checkpoint"], c["level"]): c for c in opened(make_run(change=no_code)).cells()}
    assert cells["16", 10] == {"checkpoint": "16", "level": 10, "attempts": 4, "counted": 3, "exploits": 1}


@pytest.mark.parametrize(
    ("filters", "n"),
    [
        ({"checkpoint": "16"}, 8),
        ({"level": "10", "type": "flag"}, 4),
        ({"verdict": "exploit"}, 4),
        ({"verdict": "failed"}, 12),
        ({"verdict": "none"}, 0),
        ({"task": "alpha", "attempt": "1"}, 4),
        ({"suspect": "1"}, 0),
        ({"finish": "stop", "code_status": "ok"}, 16),
        ({"text": "answer 16 0"}, 4),
        ({"text": "CHECKER"}, 8),
        ({"text": "task_id"}, 0),
    ],
)
def test_filters_select(make_run: Any, filters: dict[str, str], n: int) -> None:
    page = opened(make_run()).rows(filters, 0, 500)
    assert len(page.rows) == n
    assert page.total in (None, n)


@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_search_finds_what_a_reader_would(make_run: Any, text: str) -> None:
    def write(row: dict[str, Any]) -> None:
        row["response"] = f"before {text} after" if row["attempt_idx"] == 1 else "nothing"

    index = opened(make_run(change=write))
    needle = text.strip().casefold()
    found = index.rows({"text": text}, 0, 500).rows
    if not needle:
        assert len(found) == 16
    else:
        assert {row["attempt"] for row in found} >= {1}
        assert sum(row["attempt"] == 1 for row in found) == 8


def test_pages_hold_each_row_once(make_run: Any) -> None:
    index = opened(make_run())
    for filters in ({}, {"text": "answer"}):
        seen: list[int] = []
        while True:
            page = index.rows(filters, len(seen), 3)
            seen += [row["id"] for row in page.rows]
            if not page.more:
                break
        assert len(seen) == len(set(seen)) == 16


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"verdict": "maybe"}, "valid: exploit"),
        ({"level": "ten"}, "whole number"),
        ({"colour": "red"}, "unknown filter"),
    ],
)
def test_bad_questions_are_refused(make_run: Any, filters: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        opened(make_run()).rows(filters)


def test_only_changed_tables_are_read_again(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    opened(run)
    read: list[str] = []
    lines = SampledTable.lines
    monkeypatch.setattr(SampledTable, "lines", lambda self: read.append(self.path.name) or lines(self))
    opened(run)
    assert read == []
    changed = run / "evals" / "checkpoint-4_prefill0.jsonl"
    for path, n_rows in ((changed, 14), (samples_beside(changed), 14)):
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines()[:2]))
        assert opened(run).summary()["rows"] == n_rows
    assert read == [changed.name, samples_beside(changed).name]


def test_a_damaged_or_old_index_is_made_again(make_run: Any) -> None:
    run = make_run()
    path = index_run(run)
    path.write_bytes(b"not a database")
    assert opened(run).summary()["rows"] == 16
    with sqlite3.connect(path) as index:
        index.execute("PRAGMA user_version = 0")
    assert opened(run).summary()["rows"] == 16


def test_a_changed_table_is_not_read_at_old_places(make_run: Any) -> None:
    run = make_run()
    index = opened(run)
    row = index.rows({"checkpoint": "4", "level": "0"}).rows[1]
    (run / "evals" / "checkpoint-4_prefill0.jsonl.samples.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="changed since it was indexed"):
        index.sample(row["id"])


def test_a_broken_line_is_named(make_run: Any) -> None:
    run = make_run()
    path = run / "evals" / "checkpoint-4_prefill0.jsonl.samples.jsonl"
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:5: not valid JSON"):
        index_run(run)
    assert not list((run / ".view").iterdir())


def test_tables_without_texts_are_enough(make_run: Any) -> None:
    run = make_run()
    for path in run.glob("evals/*.samples.jsonl"):
        path.unlink()
    assert opened(run).rows({}, 0, 500).total == 16


def test_hostile_rows_are_indexed(hostile_run: Path) -> None:
    page = opened(hostile_run).rows({}, 0, 500)
    assert page.total == 16


def test_the_pages_script_counts_as_the_index_does() -> None:
    script = (Path(view.__file__).parent / "assets" / "view.js").read_text()
    (names,) = re.findall(r"const WITHOUT_CODE = new Set\((\[.*?\])\)", script)
    assert set(json.loads(names)) == UNJUDGED
