"""The integration stage on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.analysis.figures import SavedFigure, write_csv
from foreshock.analysis.figures.integration import (
    accessibility_pair_figure,
    predictor_figure,
    threshold_figure,
    waiting_figure,
)
from foreshock.analysis.integration.compare import HEADLINE_ROWS, compare, threshold_timing
from foreshock.analysis.integration.join import (
    IntegrationOptions,
    Joined,
    join_logprobs,
    read_prefix_scores,
    read_trajectory,
)
from foreshock.analysis.integration.survival import kaplan_meier, waits
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_json


@dataclass(frozen=True, slots=True)
class IntegrationRun:
    """What was joined, what it says, and the figures."""

    directory: Path
    joined: Joined
    summary: dict[str, Any]
    figures: tuple[SavedFigure, ...]


def run_integration(
    trajectory_csv: Path,
    logprob_dirs: Sequence[Path],
    output_dir: Path,
    options: IntegrationOptions,
    figures: bool = True,
) -> IntegrationRun:
    """Join, compare, and write trajectory_with_logprob.csv, threshold_timing.csv, kaplan_meier.csv,
    integration_summary.json, figures/.

    `logprob_dirs` are run directories or their logprob/ folders.

    Raises:
        InputError: unreadable input, or trajectory and logprobs that share no task.
    """
    if not logprob_dirs:
        raise InputError("no logprob directory given", fix="name run directories with --logprob-dirs")
    trajectory = read_trajectory(trajectory_csv)
    if trajectory.empty:
        raise InputError("holds a header and no row", path=trajectory_csv, fix="foreshock trajectory --run-dir RUN")
    scores = read_prefix_scores(logprob_dirs)
    if scores.empty:
        raise InputError(
            f"no log-probability is known in {', '.join(map(str, logprob_dirs))}: files without a row, or rows whose "
            "prefill_logprob_sum is null or not finite",
            fix="foreshock analyse RUN computes those that are missing",
        )
    if not set(trajectory["task_id"]) & set(scores["task_id"]):
        raise InputError(
            f"no task of {trajectory_csv} has a score in {', '.join(map(str, logprob_dirs))}; "
            "trajectory and logprobs must come from one problem set"
        )
    joined = join_logprobs(trajectory, scores, options)
    summary = compare(joined, options.threshold)
    timing = threshold_timing(joined.frame)
    curves, _ = kaplan_meier(waits(joined.frame).tasks)
    write_csv(joined.frame, output_dir / "trajectory_with_logprob.csv")
    write_csv(timing, output_dir / "threshold_timing.csv")
    write_csv(curves, output_dir / "kaplan_meier.csv")
    write_json(output_dir / "integration_summary.json", summary)
    saved: list[SavedFigure] = []
    if figures:
        folder = output_dir / "figures"
        steps = sorted(float(step) for step in np.unique(joined.frame["checkpoint"].to_numpy(dtype=np.float64)))
        saved = [
            accessibility_pair_figure(joined.frame, summary, folder),
            threshold_figure(timing, summary | {"checkpoints": steps}, folder),
        ]
        if len(curves):
            saved.insert(1, waiting_figure(curves, summary, folder))
        if summary["regressions"][HEADLINE_ROWS]["token"]["n"] > 0:
            saved.insert(1, predictor_figure(joined.frame, summary, folder))
    return IntegrationRun(output_dir, joined, summary, tuple(saved))
