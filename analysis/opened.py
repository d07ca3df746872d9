"""A run as pandas frames: what `foreshock.load` gives.

Nothing is read before it is asked for. Cells that the run's plan has and its tables lack are warned of. Columns are
documented in docs/python.md, row fields in docs/formats.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshock.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """One run directory, ours or another tool's.

    Raises:
        InputError: from `Run(...)` if there is no such directory; from a method if the run lacks what it reads.
    """

    def __init__(self, run_dir: Path | str) -> None:
        self.path = Path(run_dir).expanduser()
        if not self.path.is_dir():
            raise InputError("no such run directory", path=self.path, fix="`foreshock ls` lists runs")

    def __repr__(self) -> str:
        return f"foreshock.Run({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.resolve().name

    def attempts(self) -> pd.DataFrame:
        """Sampled attempts with a verdict, one row each; error rows and rows without a verdict are left out."""
        self._warn_of_gaps()
        return self._attempts.copy()

    def ground_truth(self) -> pd.DataFrame:
        """Extra unprompted attempts that estimates are set against; columns as `attempts`."""
        from foreshock.analysis.tables import load_ground_truth

        return load_ground_truth(self.path)

    def scores(self) -> pd.DataFrame:
        """log P of each prefix under its checkpoint, in nats; with `kl_divergence` (log Q - log P) where the run has
        a donor's scores."""
        from foreshock.analysis.tables import TableKind, load_kl, load_logprobs
        from foreshock.analysis.tables.files import has_files

        scores = load_logprobs(self.path)
        if not has_files(self.path, TableKind.KL):
            return scores
        keys = ["checkpoint", "prefill_level", "task_id", "attempt_idx"]
        kl = load_kl(self.path)[[*keys, "kl_divergence", "ref_logprob_sum"]]
        scores["task_id"], kl["task_id"] = (
            scores["task_id"].astype(str),
            kl["task_id"].astype(str),
        )  # their own categories
        return scores.merge(kl, on=keys, how="left", validate="many_to_one")

    def rates(self, donor_run: Path | str | None = None) -> pd.DataFrame:
        """Unprompted exploit rates with intervals (log10), one row per method and cell, as in rates.csv.

        What the run's analysis wrote is read; with `donor_run`, or where there is none, rates are estimated now.
        """
        import pandas as pd

        from foreshock.analysis.tables.own_csv import read_csv

        self._warn_of_gaps()
        written = self.path / "analysis" / "rates.csv"
        if donor_run is None and written.is_file():
            return read_csv(written)
        from foreshock.analysis.estimates.found import find_rates
        from foreshock.analysis.evidence.estimate import as_row

        found = find_rates([self.path], None if donor_run is None else Path(donor_run))
        return pd.DataFrame([as_row(estimate) for estimate in found.estimates])

    def trajectory(self, threshold: int = 10) -> pd.DataFrame:
        """Min prefill, accessibility and time to threshold, one row per task and checkpoint."""
        from foreshock.analysis.tables import count_tasks
        from foreshock.analysis.trajectory import TrajectoryOptions, compute_trajectory

        self._warn_of_gaps()
        return compute_trajectory(count_tasks(self.path), TrajectoryOptions(threshold=threshold)).frame

    def samples(self, limit: int = 1000, **filters: str | int) -> pd.DataFrame:
        """Whole sample rows, texts included, at most `limit`; filters as in `foreshock view`.

        Filters are checkpoint (`90` or `final`), level, type, task, attempt, verdict (exploit, solved, failed, none),
        finish, code_status, suspect and text. Raises InputError for any other.
        """
        import pandas as pd

        from foreshock.analysis.view.index import index_run
        from foreshock.analysis.view.query import MOST, RunIndex

        self._warn_of_gaps()
        index = RunIndex(self.name, index_run(self.path))
        wanted = {name: str(value) for name, value in filters.items()}
        rows: list[Mapping[str, Any]] = []
        while len(rows) < limit:
            page = index.rows(wanted, len(rows), min(MOST, limit - len(rows)))
            rows += [{**index.sample(row["id"])["row"], **_place(row)} for row in page.rows]
            if not page.more:
                break
        return pd.DataFrame(rows)

    def _warn_of_gaps(self) -> None:
        from foreshock.jobs.records.table_gaps import gap_lines

        for line in gap_lines(self.path):
            warnings.warn(f"{self.name}: {line}", stacklevel=3)

    @cached_property
    def _attempts(self) -> pd.DataFrame:
        from foreshock.analysis.tables import load_evals

        return load_evals(self.path)


def _place(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a file's name says, which rows of other tools may lack."""
    return {"checkpoint": row["checkpoint"], "prefill_level": row["level"], "kind": row["kind"]}
