"""Both tools' tables of the same runs, and how many of their values agree."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.replaced.runs import INTENTIONAL, LEVELS, Study
from scipy import stats

from foreshock.analysis.emergence.original import Definitions
from foreshock.analysis.emergence.run import EmergenceOptions, run_emergence
from foreshock.analysis.integration import IntegrationOptions, run_integration
from foreshock.analysis.surfaces.cells import RunSource
from foreshock.analysis.trajectory import TrajectoryOptions, run_trajectory
from foreshock.jobs.records.exploit_types import intentional_types

_WITHOUT_DRAWING = (
    "import matplotlib, sys, runpy; matplotlib.use('Agg')\n"
    "import matplotlib.figure as f, matplotlib.pyplot as p\n"
    "p.cm.get_cmap = p.get_cmap  # gone since matplotlib 3.9\n"
    "f.Figure.savefig = lambda *a, **k: None; p.savefig = lambda *a, **k: None; p.tight_layout = lambda *a, **k: None\n"
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
_ROW = ["task_id", "exploit_type", "checkpoint"]
_THRESHOLD = -55.39


@dataclass(frozen=True, slots=True)
class Agreement:
    """One column of one table: values compared, and those that are equal to eight digits or missing in both."""

    table: str
    column: str
    values: int
    equal: int


def run_script(checkout: Path, script: str, arguments: Sequence[str | Path], folder: Path) -> None:
    """Run one of the other tool's scripts in `folder`, its figures left out. Raises RuntimeError where it fails."""
    path = os.pathsep.join([str(checkout / "src"), str(checkout / "scripts")])
    command = [sys.executable, "-c", _WITHOUT_DRAWING, str(checkout / "scripts" / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} failed: {done.stderr[-2000:]}")


def agreement(
    table: str, ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str], columns: list[str]
) -> list[Agreement]:
    """Columns of two tables, row by row of the same keys; a row that only one has counts as unequal."""
    both = ours[[*keys, *columns]].merge(theirs[[*keys, *columns]], on=keys, how="outer", suffixes=("", "_theirs"))
    found = []
    for column in columns:
        a, b = (both[name].to_numpy(dtype=float, na_value=np.nan) for name in (column, f"{column}_theirs"))
        equal = np.isclose(a, b, rtol=1e-8, atol=1e-9, equal_nan=True)
        found.append(Agreement(table, column, len(both), int(equal.sum())))
    return found


def trajectories(study: Study, head: Path, seed: Path, folder: Path) -> list[Agreement]:
    """trajectory_analysis.csv of both commits; of the newer one also for intentional types alone."""
    columns = ["min_prefill", "accessibility", "steps_to_threshold", "ever_reaches_threshold", "at_threshold"]
    run_trajectory(study.exploit, folder / "ours", TrajectoryOptions(), figures=False)
    run_script(
        head,
        "prefill_trajectory_analysis.py",
        ["--run-dir", study.exploit, "--output-dir", folder / "head", "--filter-dataset", "none"],
        folder,
    )
    run_script(
        seed, "prefill_trajectory_analysis.py", ["--run-dir", study.exploit, "--output-dir", folder / "seed"], folder
    )
    found = []
    for subset in ("all_exploits", "intentional_only"):
        ours, theirs = (pd.read_csv(folder / tool / subset / "trajectory_analysis.csv") for tool in ("ours", "head"))
        found += agreement(f"trajectory, 1e8783d, {subset}", ours, theirs, _ROW, columns)
    ours = pd.read_csv(folder / "ours" / "all_exploits" / "trajectory_analysis.csv")
    theirs = pd.read_csv(folder / "seed" / "trajectory_analysis.csv")
    return [*found, *agreement("trajectory, 1030f39", ours, theirs, _ROW, columns)]


def integration(study: Study, seed: Path, folder: Path) -> list[Agreement]:
    """trajectory_with_logprob.csv and the regressions before the threshold, each tool on its own trajectory table, and
    ours on theirs."""
    theirs_csv = folder / "seed" / "trajectory_analysis.csv"
    levels = [level for level in LEVELS if level]
    run_script(
        seed,
        "integrate_logprob_trajectory.py",
        ["--trajectory-csv", theirs_csv, "--logprob-dirs", study.exploit / "logprob", "--output-dir", folder / "joined",
         "--prefill-levels", *map(str, levels), "--logprob-threshold", str(_THRESHOLD)],
        folder,
    )  # fmt: skip
    theirs = pd.read_csv(folder / "joined" / "trajectory_with_logprob.csv")
    options = IntegrationOptions(prefill_levels=tuple(levels), logprob_threshold=_THRESHOLD)
    found: list[Agreement] = []
    for name, csv in (
        ("ours", folder / "ours" / "all_exploits" / "trajectory_analysis.csv"),
        ("theirs", theirs_csv),
    ):
        done = run_integration(csv, [study.exploit], folder / f"joined-{name}", options, figures=False)
        columns = ["min_prefill_logprob_sum", "min_prefill_logprob_mean", "at_logprob_threshold",
                   "steps_to_logprob_threshold", "accessibility_logprob"]  # fmt: skip
        frame = pd.read_csv(folder / f"joined-{name}" / "trajectory_with_logprob.csv")
        found += agreement(f"integration on {name} table", frame, theirs, _ROW, columns)
        found += _regressions(f"regressions on {name} table", done.summary["regressions"], theirs)
    return found


def _regressions(name: str, ours: dict[str, dict[str, dict[str, float]]], theirs: pd.DataFrame) -> list[Agreement]:
    """R², p and n as the other tool draws them, from its own joined table."""
    rows = theirs[~theirs["at_threshold"] & theirs["steps_to_threshold"].notna()].dropna(
        subset=["min_prefill_logprob_sum"]
    )
    found = []
    for predictor, column in (("token", "min_prefill"), ("logprob", "min_prefill_logprob_sum")):
        fit = stats.linregress(rows[column], rows["steps_to_threshold"])
        own = ours["before_threshold_only"][predictor]
        pairs = [(own["r2"], fit.rvalue**2), (own["p"], fit.pvalue), (own["n"], len(rows))]
        equal = sum(bool(np.isclose(a, b, rtol=1e-9, atol=0)) for a, b in pairs)
        found.append(Agreement(name, f"{predictor}: R², p, n", len(pairs), equal))
    return found


def emergence(study: Study, head: Path, folder: Path) -> list[Agreement]:
    """AUC of every cutoff, metric and model."""
    run_script(
        head,
        "binary_emergence_predictor.py",
        ["--exploit-evals", study.exploit / "evals", "--control-evals", study.control / "evals",
         "--exploit-logprobs", study.exploit_logprobs, "--output-dir", folder / "theirs"],
        folder,
    )  # fmt: skip
    sources = [
        RunSource(study.exploit, "exploit", study.exploit_logprobs),
        RunSource(study.control, "control", study.exploit_logprobs),  # as the other tool does
    ]
    options = EmergenceOptions(
        definitions=Definitions.ORIGINAL,
        permutations=19,
        intentional=intentional_types(",".join(INTENTIONAL)),
        figures=False,
    )
    run_emergence(sources, folder / "ours", options)
    ours, theirs = (pd.read_csv(folder / tool / "all_results.csv") for tool in ("ours", "theirs"))
    ours = ours[ours["metric"] != "prefill_logprob"]
    found = []
    for model in sorted(theirs["model"].unique()):
        parts = [table[table["model"] == model] for table in (ours, theirs)]
        found += agreement(f"emergence, {model}", *parts, ["cutoff_idx", "metric"], ["auc", "n"])
    return found
