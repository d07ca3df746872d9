"""Looking up scores of prefixes gives what a dictionary gives, however large the keys."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.tables import join
from foreshock.analysis.tables.join import is_shared, look_up

KEYS = ["checkpoint", "task", "attempt"]
KEY = st.tuples(st.sampled_from([1.0, 50.0, 1e6, float("inf")]), st.integers(-1, 4), st.integers(0, 2))


def _frame(keys: list[tuple[float, int, int]], values: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame(keys, columns=KEYS).astype({"checkpoint": float, "task": np.int32, "attempt": np.int64})
    return frame.assign(value=np.array(values, dtype=float))


@pytest.fixture(scope="module", params=["array", "sorted"])
def places(request: pytest.FixtureRequest) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "sorted":
            patch.setattr(join, "_DENSE_PLACES", 0)
        yield


@pytest.mark.usefixtures("places")
@given(wanted=st.lists(KEY, max_size=30), scored=st.lists(st.tuples(KEY, st.floats(-9, 0)), max_size=30))
def test_the_first_score_with_a_rows_keys_is_found(
    wanted: list[tuple[float, int, int]], scored: list[tuple[tuple[float, int, int], float]]
) -> None:
    first: dict[tuple[float, int, int], float] = {}
    for key, value in scored:
        first.setdefault(key, value)
    rows = _frame(wanted, [0.0] * len(wanted))
    found = look_up(rows, _frame([key for key, _ in scored], [value for _, value in scored]), KEYS, "value")
    np.testing.assert_array_equal(found, [first.get(key, np.nan) for key in wanted])


@pytest.mark.usefixtures("places")
@given(rows=st.lists(st.tuples(KEY, st.sampled_from([0.0, 1.0])), max_size=30))
def test_a_value_is_shared_where_no_other_has_its_keys(rows: list[tuple[tuple[float, int, int], float]]) -> None:
    values: dict[tuple[float, int, int], set[float]] = {}
    for key, value in rows:
        values.setdefault(key, set()).add(value)
    found = is_shared(_frame([key for key, _ in rows], [value for _, value in rows]), KEYS, "value")
    assert found.tolist() == [len(values[key]) == 1 for key, _ in rows]
