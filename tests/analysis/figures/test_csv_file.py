from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from foreshock.analysis.figures import write_csv

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=5)
FLOATS = st.floats().map(lambda x: x + 0.0)  # no negative zero: pandas writes it as -0
COLUMNS = st.sampled_from(
    [
        (FLOATS, "float64"),
        (st.integers(-(2**63), 2**63 - 1), "int64"),
        (st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), "Int32"),
        (st.booleans(), "bool"),
        (st.one_of(st.none(), st.booleans()), "boolean"),
        (st.one_of(st.none(), TEXTS), "object"),
        (st.one_of(st.none(), TEXTS), "category"),
        (st.one_of(st.none(), TEXTS, st.booleans(), st.integers(0, 2)), "object"),
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    size = draw(st.integers(0, 8))
    kinds = draw(st.lists(COLUMNS, min_size=1, max_size=4))
    columns = {
        f"c{i}": pd.Series(draw(st.lists(values, min_size=size, max_size=size)), dtype=dtype)
        for i, (values, dtype) in enumerate(kinds)
    }
    return pd.DataFrame(columns)


@given(frames())
def test_bytes_are_those_of_pandas(frame: pd.DataFrame) -> None:
    with TemporaryDirectory() as folder:
        written = write_csv(frame, Path(folder) / "t.csv").read_bytes()
    assert written == frame.to_csv(index=False, float_format="%.10g", lineterminator="\n").encode()


def test_final_is_a_word_and_missing_is_empty(tmp_path: Path) -> None:
    frame = pd.DataFrame({"checkpoint": [5.0, np.inf, np.nan], "value": [0.5, np.nan, 2.0]})
    assert write_csv(frame, tmp_path / "t.csv").read_text() == "checkpoint,value\n5,0.5\nfinal,\n,2\n"


def test_whole_steps_and_names_stay_as_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"checkpoint": [10, 200], "checkpoint_name": ["checkpoint-10", "final"]})
    written = write_csv(frame, tmp_path / "t.csv").read_text()
    assert written == "checkpoint,checkpoint_name\n10,checkpoint-10\n200,final\n"


def test_a_negative_zero_is_zero_whatever_stands_before_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"value": [-0.0, 0.0, -0.0, -0.5]})
    assert write_csv(frame, tmp_path / "t.csv").read_text() == "value\n0\n0\n0\n-0.5\n"
