"""Cells that the plan has and the tables lack are named, however they went."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_factory import planned_spec, write_plan

from foreshock.errors import InputError
from foreshock.jobs.records.layout import CellName, RunLayout
from foreshock.jobs.records.planspecs import planned_levels
from foreshock.jobs.records.spec import JobKind
from foreshock.jobs.records.table_archives import TableArchives
from foreshock.jobs.records.table_gaps import Gaps, find_gaps, gap_lines

CELLS = [CellName(f"checkpoint-{step}", level) for step in (5, 40, 200) for level in (0, 10)]


KINDS = (JobKind.EVAL, JobKind.EXTRA)
SPECS = [planned_spec(step, level, kind) for step in (5, 40, 200) for kind in KINDS for level in (0, 10)]


def write_tables(layout: RunLayout, tables: set[CellName], samples: set[CellName], archived: set[CellName]) -> None:
    layout.evals.mkdir(parents=True)
    with TableArchives() as archives:
        for there, path_of in ((tables, layout.eval_file), (samples, layout.samples_file)):
            for cell in there:
                path = path_of(*cell)
                archives.add(path, b"{}\n") if cell in archived else path.write_bytes(b"{}\n")


SOME = st.sets(st.sampled_from(CELLS))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=SOME, samples=SOME, archived=SOME)
def test_what_is_missing_of_the_plan_is_found_in_files_and_archives_alike(
    tmp_path_factory: pytest.TempPathFactory, tables: set[CellName], samples: set[CellName], archived: set[CellName]
) -> None:
    layout = RunLayout(tmp_path_factory.mktemp("gaps"))
    write_plan(layout.root, SPECS)
    write_tables(layout, tables, samples, archived)
    gaps = find_gaps(layout.root)
    assert gaps.n_planned == len(CELLS)
    assert list(gaps.no_table) == [cell for cell in CELLS if cell not in tables]
    assert list(gaps.no_samples) == ([cell for cell in CELLS if cell in tables - samples] if samples else [])
    said = " ".join(gap_lines(layout.evals))
    assert all(cell.checkpoint in said for cell in gaps.no_table)
    assert (said == "") == (set(CELLS) == tables and samples in (set(), set(CELLS)))


def test_a_run_without_a_plan_is_what_it_holds_and_a_damaged_plan_is_named(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    write_tables(layout, set(CELLS[:1]), set(), set())
    assert find_gaps(tmp_path) == Gaps(0, (), ())
    for text in ("{", '{"specs": [{}]}', '{"order": [[0, 0]], "specs": [], "sequences": [[7]], "checkpoints": []}'):
        layout.plan.write_text(text)
        with pytest.raises(InputError, match=r"plan\.json"):
            find_gaps(tmp_path)


def test_plans_of_earlier_versions_say_their_cells(tmp_path: Path) -> None:
    data = {"specs": [planned_spec(*at).to_json() for at in ((1, 0), (2, 10), (2, 0, JobKind.EXTRA))]}
    assert list(planned_levels(data, JobKind.EVAL)) == [("checkpoint-1", (0,)), ("checkpoint-2", (10,))]
