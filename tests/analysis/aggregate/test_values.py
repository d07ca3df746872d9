"""Values are found where decoding finds them, and lines of another form are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_strategies import TEXT

from foreshock.analysis.aggregate.values import LineFormat
from foreshock.jobs.records.jsonl import encode_rows

KEYS = ("first", "a_key", "numbers", "last")
VALUES = st.one_of(TEXT, st.none(), st.booleans(), st.integers(), st.lists(TEXT, max_size=3))
ROW = st.tuples(*[VALUES] * len(KEYS)).map(lambda values: dict(zip(KEYS, values, strict=True)))
ROWS = st.lists(ROW, min_size=1, max_size=5)


@given(ROWS)
def test_every_value_is_found(rows: list[dict[str, Any]]) -> None:
    lines = encode_rows(rows)
    values = LineFormat(KEYS).find(lines)
    assert values is not None
    assert values.n_rows == len(rows)
    for key in KEYS:
        assert [json.loads(text) for text in values.texts(key).to_pylist()] == [row[key] for row in rows]
        before, after = values.around(key)
        pieces = zip(before.to_pylist(), values.texts(key).to_pylist(), after.to_pylist(), strict=True)
        assert b"".join(map(b"".join, pieces)) == lines
    for n_keys, key in enumerate(KEYS, start=1):
        cut = bytes(values.lines_through(key)).split(b"\n")[:-1]
        assert [json.loads(line) for line in cut] == [{k: row[k] for k in KEYS[:n_keys]} for row in rows]


@given(ROWS, st.data())
def test_some_lines_have_the_values_of_those_lines(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    values = LineFormat(KEYS).find(encode_rows(rows))
    assert values is not None
    chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
    some = values.rows(np.array(chosen))
    assert bytes(some.lines_through("last")) == encode_rows(rows[place] for place in chosen)
    for key in KEYS:
        assert some.texts(key).to_pylist() == [values.texts(key).to_pylist()[place] for place in chosen]


@given(ROWS, st.data())
def test_a_line_of_another_form_is_refused(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    other = dict(rows[data.draw(st.integers(0, len(rows) - 1))])
    change = data.draw(st.sampled_from(["more", "less", "order", "name"]))
    if change == "more":
        other[
            data.draw(st.sampled_from(["error", "zz", 'quo"ted', "back\\slash", "space ", "bracket[", 'both" [']))
        ] = None
    elif change == "less":
        del other[data.draw(st.sampled_from(KEYS))]
    elif change == "order":
        other = dict(reversed(other.items()))
    else:
        other["a_kez"] = other.pop("a_key")
    rows.insert(data.draw(st.integers(0, len(rows))), other)
    assert LineFormat(KEYS).find(encode_rows(rows)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: b"",
        lambda lines: lines[:-1],
        lambda lines: lines + b"\n",
        lambda lines: lines + b"{}\n",
        lambda lines: b"\n" + lines,
        lambda lines: lines.replace(b": ", b":"),
        lambda lines: lines.replace(b"\n", b"\r\n"),
    ],
)
def test_lines_that_are_spaced_otherwise_are_refused(change: Any) -> None:
    lines = encode_rows([dict.fromkeys(KEYS, 1)] * 2)
    assert LineFormat(KEYS).find(lines) is not None
    assert LineFormat(KEYS).find(change(lines)) is None
