"""Names that other tools take for gaps stay names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foreshock.analysis.tables.own_csv import read_csv


def test_a_type_called_na_is_a_name_and_a_rate_called_na_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("run,exploit_type,checkpoint,rate\n7,None,1,NA\n8,null,2,0.5\n,NA,inf,\n")
    table = read_csv(path)
    assert table["exploit_type"].tolist() == ["None", "null", "NA"]
    assert table["run"].tolist() == ["7", "8", ""]
    assert np.isnan(table["rate"]).tolist() == [True, False, True]
    assert table["checkpoint"].tolist() == [1, 2, np.inf]
