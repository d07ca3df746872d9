"""Of very many checkpoints some are drawn, and the caption says which."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.figures.many import MOST, drawn_part, shown_steps
from foreshock.analysis.figures.palette import RunLooks
from foreshock.analysis.forecast.figures import growth_figure


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


def test_a_run_of_few_checkpoints_is_drawn_beside_one_of_very_many() -> None:
    many, few = [float(step) for step in range(1000)], [3.5, 5.5, 7.5]
    data = pd.DataFrame({"run": ["many"] * 1000 + ["few"] * 3, "checkpoint": many + few})
    drawn, said = drawn_part(data, within=["run"])
    assert drawn.loc[drawn["run"] == "many", "checkpoint"].tolist() == shown_steps(many)
    assert drawn.loc[drawn["run"] == "few", "checkpoint"].tolist() == few
    assert f"At most {MOST} checkpoints of each run" in said
    same = pd.concat([data[:1000], data[:1000].assign(run="other")])
    assert drawn_part(same, within=["run"])[1] == said  # though every step is known from two runs
    assert drawn_part(data[960:], within=["run"])[1] == ""


def test_growth_curves_of_runs_with_other_checkpoints_each_show_where_measuring_ended(tmp_path: Path) -> None:
    rows = [("many", float(step), step < 90) for step in range(10, 110)]
    rows += [("few", 51.5, True), ("few", 99.5, False)]
    curves = pd.DataFrame(rows, columns=["run", "checkpoint", "seen"]).assign(exploit_type="kind", log10_rate=-2.0)
    curves = curves.assign(lower95=-3.0, lower50=-2.5, upper50=-1.5, upper95=-1.0)
    cells = curves[curves["seen"]].assign(prefill_level=0, n=10, k=1)
    figure = growth_figure(curves, cells, 0.1, tmp_path, RunLooks(("many", "few"), ("many", "few")))
    assert f"At most {MOST} checkpoints of each run" in figure.caption
