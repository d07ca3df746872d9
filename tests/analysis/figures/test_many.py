"""Of very many checkpoints some are drawn, and the caption says which."""

from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.figures.many import MOST, drawn_part, shown_steps


@given(st.lists(st.one_of(st.integers(0, 10**6).map(float), st.just(float("inf"))), min_size=1, max_size=400))
def test_the_first_and_the_last_are_drawn_and_no_more_than_fit(steps: list[float]) -> None:
    data = pd.DataFrame({"checkpoint": steps, "n": range(len(steps))})
    drawn, said = drawn_part(data)
    known, shown = sorted(set(steps)), sorted(set(drawn["checkpoint"]))
    assert shown == shown_steps(steps)
    assert shown == known or len(shown) == MOST
    assert (shown[0], shown[-1]) == (known[0], known[-1])
    assert (said == "") == (shown == known)
    assert said == "" or f"{MOST} of the {len(known):,} checkpoints" in said
    assert drawn["n"].tolist() == data.loc[data["checkpoint"].isin(shown), "n"].tolist()
