"""From counts to trajectories: min prefill, accessibility, time to threshold, descent rates.

compute_trajectory(tasks, TrajectoryOptions())   one row per (task, checkpoint)
expected_by_attempts(tasks, threshold)           what the same data say about fewer attempts
descent_rates(frame)                             words per 100 steps between neighbouring checkpoints
run_trajectory(run_dir, output_dir, options)     all files and figures, all_exploits/ and intentional_only/
"""

from __future__ import annotations

from foreshock.analysis.trajectory.attempts import expected_by_attempts
from foreshock.analysis.trajectory.compute import (
    Trajectory,
    TrajectoryOptions,
    compute_trajectory,
    descent_rates,
    intentional,
)
from foreshock.analysis.trajectory.write import SUBSETS, TrajectoryRun, run_trajectory

__all__ = [
    "SUBSETS",
    "Trajectory",
    "TrajectoryOptions",
    "TrajectoryRun",
    "compute_trajectory",
    "descent_rates",
    "expected_by_attempts",
    "intentional",
    "run_trajectory",
]
