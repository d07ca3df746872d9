"""Some of very many checkpoints."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.tables.spacing import evenly_spaced


@given(steps=st.lists(st.integers(0, 10**6).map(float), min_size=1, max_size=200), most=st.integers(2, 60))
def test_ends_are_kept_and_gaps_differ_by_one(steps: list[float], most: int) -> None:
    shown, known = evenly_spaced(steps, most), sorted(set(steps))
    assert len(shown) == min(most, len(known))
    assert (shown[0], shown[-1]) == (known[0], known[-1])
    gaps = {known.index(b) - known.index(a) for a, b in pairwise(shown)}
    assert not gaps or max(gaps) - min(gaps) <= 1
