"""What signs are computed from: cells and traces are told apart however many there are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.evidence.evidence import PrefillRows
from foreshock.analysis.headline.missing import nan_is_missing
from foreshock.analysis.headline.signs import _joined, _roughness

CODE = st.integers(0, 12_000)


@given(st.lists(st.tuples(st.integers(0, 9), CODE, st.integers(0, 9)), min_size=1, max_size=30))
def test_combinations_have_codes_of_their_own_in_their_order(rows: list[tuple[int, int, int]]) -> None:
    """10,000 checkpoints among them: of codes with room for a thousand, cells of two surfaces were one."""
    parts = np.array(rows, dtype=np.int64).T
    code = _joined(*parts)
    assert len(set(code.tolist())) == len(set(rows))
    assert [rows[place] for place in np.argsort(code, kind="stable")] == sorted(rows)


def test_with_one_trace_in_each_cell_nothing_is_divided_by_nothing() -> None:
    n = 8
    zero, step = np.zeros(n, dtype=np.int64), np.arange(n, dtype=np.int64)
    rows = PrefillRows(zero, step, zero + 1, zero, zero, zero, np.linspace(-3, 0, n), np.linspace(-9, -5, n))
    found: dict[str, float] = {}
    with nan_is_missing():
        _roughness(found, rows)
    assert np.isnan(found["time_change"])
