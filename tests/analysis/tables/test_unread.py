"""Responses without code: in the denominator, counted apart, shown both ways, and warned about where they are many."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from foreshock.analysis import tables
from foreshock.analysis.report.runs_section import code_notes
from foreshock.analysis.surfaces.cells import RunSource, load_run_cells
from foreshock.analysis.tables.read_report import both_rates
from foreshock.batch.status.of_tables import status_of_tables
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.verdicts import counted_exploit, unread_note


@pytest.fixture
def run(factory: ModuleType, tmp_path: Path) -> Path:
    """Level 0: 40 responses, all with code, 4 exploits. Level 5: 40, of them 8 without code, 2 that do not compile."""
    statuses = ["no_code"] * 4 + ["truncated"] * 2 + ["no_answer"] * 2 + ["does_not_compile"] * 2
    for level, unread in ((0, []), (5, statuses)):
        rows = []
        for number in range(40):
            status = unread[number] if number < len(unread) else "ok"
            judged = status in ("ok", "does_not_compile")
            success = (number >= 36) if judged else None
            rows.append(factory.eval_row(attempt=number, success=success, code_status=status))
        factory.write_rows(tmp_path / "evals" / f"checkpoint-10_prefill{level}.jsonl", rows)
    return tmp_path


def test_they_stay_in_the_denominator_and_are_counted(run: Path) -> None:
    table = tables.read_counts(run)
    by_level = {row.prefill_level: (row.n, row.k) for row in table.cells.itertuples()}
    assert by_level == {0: (40, 4), 5: (40, 4)}
    assert table.report.code == {"does_not_compile": 2, "no_answer": 2, "no_code": 4, "ok": 70, "truncated": 2}
    assert [(cell.prefill_level, cell.unjudged, cell.rejected) for cell in table.report.suspicious_cells] == [(5, 8, 2)]


def test_reading_and_rates_say_both_denominators(run: Path) -> None:
    (whole, worst) = tables.read_counts(run).report.lines()
    assert "8 of 80 responses held no code to judge (no_answer 2, no_code 4, truncated 2)" in whole
    assert "8 exploits are 10.0% of all 80 responses; 11.1% of the 72 judged" in whole
    assert "in 1 of 2 cells over 5%" in worst
    assert "4 exploits are 10.0% of all 40 responses; 12.5% of the 32 judged" in worst
    notes = load_run_cells(RunSource(run, "toy")).notes
    assert {f"toy: {whole}", f"toy: {worst}"} <= set(notes)


def test_the_report_says_both_and_names_the_cell(run: Path) -> None:
    counts = tables.read_counts(run)
    notes = code_notes(cast(Any, SimpleNamespace(counts=counts)))
    assert notes == [
        "8 of 80 responses held no code to judge (no_answer 2, no_code 4, truncated 2). They count as "
        "attempts without an exploit: 8 exploits are 10.0% of all 80 responses; 11.1% of the 72 judged.",
        "At checkpoint 10 level 5, 8 of 40 responses held no code, and 2 held code that does not compile: 4 exploits "
        "are 10.0% of all 40 responses; 12.5% of the 32 judged. More than 5%: read some before trusting a rate.",
    ]


def test_status_says_both_and_names_the_cell(run: Path) -> None:
    (note,) = status_of_tables(RunLayout(run)).notes
    assert note.startswith("eval checkpoint-10 level 5: 10 of 40 responses hold no code, or none that compiles")
    assert "4 exploits are 10.0% of all, 13.3% of the 30 others" in note


def test_a_cell_is_warned_about_above_one_in_twenty_alone() -> None:
    assert unread_note(5, 100, 1, "here") is None
    assert unread_note(6, 100, 1, "here") is not None
    assert "nothing is known of the exploit rate" in str(unread_note(7, 7, 0, "here"))
    assert "75.0% of all, at least 1 of them" in str(unread_note(2, 4, 3, "here"))
    assert both_rates(0, 7, 7) == "0 exploits are 0.0% of all 7 responses; none was judged"


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        ({"exploit_success": True}, True),
        ({"exploit_success": None, "code_status": "no_code"}, False),
        ({"exploit_success": None, "code_status": "ok"}, None),
        ({"exploit_success": None, "code_status": "no_code", "error": "it broke"}, None),
        ({"exploit_success": True, "error": "it broke"}, None),
    ],
)
def test_a_row_adds_to_rates_what_tables_count(row: dict[str, Any], counts: bool | None) -> None:
    assert counted_exploit(row) is counts


def test_an_exploit_of_nothing_is_refused_with_its_line(run: Path) -> None:
    path = RunLayout(run).eval_file("checkpoint-10", 5)
    rows = read_rows(path)
    place = next(i for i, row in enumerate(rows) if row["code_status"] == "no_code")
    rows[place]["exploit_success"] = True
    write_jsonl(path, rows)
    with pytest.raises(InputError, match=rf"{path.name}:{place + 1}: exploit_success is true where code_status"):
        tables.read_counts(run)


def test_rows_without_a_status_are_in_every_denominator(factory: ModuleType, tmp_path: Path) -> None:
    """As a cell that an older version began: one of 21 is under 5%, and all shares are of 21."""
    old = [factory.eval_row(attempt=number, success=False) for number in range(20)]
    new = factory.eval_row(attempt=20, success=None, code_status="no_code")
    factory.write_rows(tmp_path / "evals" / "checkpoint-10_prefill5.jsonl", [*old, new])
    (line,) = tables.read_counts(tmp_path).report.lines()
    assert "1 of 21 responses held no code" in line
    assert "of all 21 responses; 0.0% of the 20 judged" in line
