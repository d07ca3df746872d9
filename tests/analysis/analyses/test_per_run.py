"""One table of several runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from foreshock.analysis.analyses.analysis import Request
from foreshock.analysis.analyses.per_run import any_run_has, table_of_runs
from foreshock.jobs.records.layout import RunLayout


def _folders(run: RunLayout) -> tuple[Path]:
    return (run.splitting,)


def test_runs_of_one_name_keep_their_own_labels_and_runs_without_files_add_nothing(tmp_path: Path) -> None:
    runs = [tmp_path / folder / "sweep" for folder in ("a", "b", "c")]
    for run in runs:
        RunLayout(run).splitting.mkdir(parents=True)
    for run in runs[1:]:
        (RunLayout(run).splitting / "checkpoint-8.jsonl").touch()
    request = Request(tuple(runs), tmp_path, ("first", "second", "third"))
    table = table_of_runs(request, _folders, lambda run: pd.DataFrame({"where": [run.parent.name]}))
    assert table.to_dict("list") == {"run": ["second", "third"], "where": ["b", "c"]}
    assert not any_run_has(Request((runs[0],), tmp_path), _folders)
    assert Request((runs[0] / ".." / "sweep",), tmp_path).named()[0][1] == "sweep"
