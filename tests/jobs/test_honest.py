"""Which sample's reasoning stands before exploit code: never an exploit's, an attempt's or a forced one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.errors import InputError
from foreshock.jobs.honest import NO_SAMPLE, HonestReasoning, choose_honest, read_honest, read_samples, write_honest

HONEST = {"task_id": "a", "reasoning": "I solve it.", "exploit_success": False}
UNUSABLE: list[dict[str, Any]] = [
    HONEST | {"exploit_success": True},
    HONEST | {"exploit_success": None},
    HONEST | {"error": "HTTP 500"},
    HONEST | {"insecure_suspect": True},
    HONEST | {"prefill_applied": True},
    HONEST | {"reasoning": " \n"},
    HONEST | {"reasoning": None},
    HONEST | {"reasoning_closed": False},
    HONEST | {"reasoning": "</think>"},
]


def choose(rows: list[dict[str, Any]], tasks: tuple[str, ...] = ("a",)) -> dict[str, HonestReasoning]:
    samples = ((f"f:{i}", row) for i, row in enumerate(rows, 1))
    return choose_honest(samples, tasks, lambda task, text: "with a marker" if "</think>" in text else None)


@given(st.lists(st.sampled_from(UNUSABLE)), st.lists(st.sampled_from(UNUSABLE)), st.sampled_from([None, False, True]))
def test_the_honest_one_is_found_wherever_it_stands(
    before: list[dict[str, Any]], after: list[dict[str, Any]], passed: bool | None
) -> None:
    found = choose([*before, HONEST | {"secure_pass": passed, "attempt_idx": 3}, *after])["a"]
    assert (found.text, found.attempt_idx, found.secure_pass) == ("I solve it.", 3, passed)
    assert (found.source, found.words, found.reason) == (f"f:{len(before) + 1}", 3, None)


@given(st.lists(st.sampled_from(UNUSABLE)))
def test_a_task_without_one_says_what_its_samples_were(rows: list[dict[str, Any]]) -> None:
    found = choose(rows, ("a", "b"))
    assert (found["a"].text, found["b"]) == (None, HonestReasoning("b", None, NO_SAMPLE))
    if rows:
        reason = found["a"].reason or ""
        said = [int(part.split()[0]) for part in reason.partition(": ")[2].split(", ")]
        assert sum(said) == len(rows)


def test_a_sound_answers_reasoning_comes_before_an_earlier_one(tmp_path: Path) -> None:
    rows = [HONEST, HONEST | {"reasoning": "Better.", "secure_pass": True}, HONEST | {"secure_pass": True}]
    found = choose(rows)
    assert found["a"].text == "Better."
    write_honest(tmp_path / "honest.jsonl", found.values())
    assert read_honest(tmp_path / "honest.jsonl") == found
    assert read_honest(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exploit_success": "no"}, "exploit_success is 'no'"),
        ({"task_id": None}, "task_id is None"),
        ({"reasoning": 5}, "no text in `reasoning`"),
        ({"reasoning": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused_with_their_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(HONEST) + "\n\n" + json.dumps(HONEST | change) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        list(read_samples(path))
    assert "3" in str(caught.value)
    path.write_text('{"task_id": "a", "reasoning": "x"}\n')
    with pytest.raises(InputError, match=r"no exploit_success, so .* cannot be told apart"):
        list(read_samples(path))
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no samples"):
        list(read_samples(path))
