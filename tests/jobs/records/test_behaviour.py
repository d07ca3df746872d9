"""Behaviour of checkpoints: counted row by row, alarming when it collapses or jumps, quiet when chance moves it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.records.behaviour import Behaviour, alarms
from foreshock.jobs.records.marks import MEASURES, count, marks_of

FLAG = st.one_of(st.none(), st.booleans())


@given(st.lists(st.tuples(st.sampled_from(["stop", "length", None]), FLAG, st.sampled_from(["ok", "no_code", None]))))
def test_what_is_not_known_is_counted_as_neither(rows: list[tuple[str | None, bool | None, str | None]]) -> None:
    fields = ("finish_reason", "reasoning_closed", "code_status")
    found = count(marks_of(dict(zip(fields, row, strict=True))) for row in rows)
    assert (
        found.get("ended", [0, 0]) == [sum(r[0] == "stop" for r in rows), sum(r[0] is not None for r in rows)]
        or not rows
    )
    assert found.get("closed", [0, 0])[1] == sum(r[1] is not None for r in rows)
    assert found.get("compiles", [0, 0])[0] == sum(r[2] == "ok" for r in rows)


def test_rows_of_other_tools_say_nothing() -> None:
    assert count([marks_of({}), marks_of({"finish_reason": None, "code_status": ["?"]})]) == {}


def point(name: str, **shares: tuple[int, int]) -> Behaviour:
    return Behaviour(name, shares)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_collapse_is_told_as_jump_and_as_low_share(measure: str) -> None:
    told = alarms([point("checkpoint-1", **{measure: (95, 100)}), point("checkpoint-2", **{measure: (20, 100)})])
    assert len(told) == 2
    assert f"checkpoint-2: only 20% of 100 level-0 rows {MEASURES[measure]}" in told
    assert "from 95% to 20%" in "".join(told)


def test_a_rise_that_an_artefact_could_make_is_told_too() -> None:
    (told,) = alarms([point("checkpoint-1", ended=(55, 100)), point("checkpoint-2", ended=(100, 100))])
    assert "rule out an artefact" in told


@pytest.mark.parametrize(("before", "after"), [((90, 100), (80, 100)), ((4, 5), (0, 5)), ((6, 10), (9, 10))])
def test_what_chance_may_do_is_not_told(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert alarms([point("checkpoint-1", ended=before), point("checkpoint-2", ended=after)]) == []
