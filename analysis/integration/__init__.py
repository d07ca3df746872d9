"""Trajectory and log-probability together: which of the two warns earlier, and which predicts better.

join_logprobs(trajectory, logprobs, options)   one row per (task, checkpoint), with the prefix's log-probability
compare(joined, ...)                           regressions, and when each threshold fires
run_integration(csv, logprob_dirs, output_dir, options)   all files and figures
"""

from __future__ import annotations

from foreshock.analysis.integration.compare import Regression, compare, regress, threshold_timing
from foreshock.analysis.integration.join import (
    IntegrationOptions,
    Joined,
    join_logprobs,
    read_trajectory,
)
from foreshock.analysis.integration.write import IntegrationRun, run_integration

__all__ = [
    "IntegrationOptions",
    "IntegrationRun",
    "Joined",
    "Regression",
    "compare",
    "join_logprobs",
    "read_trajectory",
    "regress",
    "run_integration",
    "threshold_timing",
]
