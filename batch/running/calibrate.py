"""`foreshock plan --calibrate`: a short run of the plan's own kind, so that its costs are measured and not guessed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import parse_config
from foreshock.batch.packing.learned import CALIBRATIONS, COSTS_FILE
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import RunHooks, run
from foreshock.batch.status.read import read_status
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout, run_dir_name

_LOOK_S = 5.0
_MOST_PROBLEMS = 16
_ENDED = frozenset({"completed", "incomplete", "failed", "interrupted", "stopped"})


def calibrate(config: RunConfig, command: Sequence[str], hooks: RunHooks, say: Callable[[str], None]) -> Path:
    """Run one checkpoint at the lowest and the highest level, one attempt a problem, and wait for its end.

    Its directory lies beside the runs, not among them. Raises ForeshockError if nothing was measured.
    """
    small = calibration_of(config)
    folder = config.results_dir / CALIBRATIONS / run_dir_name(small.name, datetime.now(), None)
    say(f"calibrating in {folder}: one checkpoint, levels {', '.join(map(str, small.prefill.levels))}")
    result = run(small, command, hooks, folder)
    layout = RunLayout(folder)
    if result.execution.submitted:
        say("submitted; waiting for it. After Ctrl-C the job goes on, and a later plan uses what it measured")
        while read_status(layout).status not in _ENDED:
            time.sleep(_LOOK_S)
    if not (folder / COSTS_FILE).is_file():
        raise ForeshockError(f"the calibration measured nothing\n  -> foreshock status {folder} says why")
    return folder


def calibration_of(config: RunConfig) -> RunConfig:
    """The configuration of the short run."""
    first = make_plan(config).checkpoints[0]
    data = config.to_yaml_dict()
    data["name"] = "calibration"
    data["checkpoints"]["steps"] = ["final" if first.step is None else first.step]
    levels = config.prefill.levels
    data["prefill"]["levels"] = sorted({min(levels), max(levels)})
    data["sampling"]["attempts"] = 1
    data["problems"]["max_problems"] = min(_MOST_PROBLEMS, config.problems.max_problems or _MOST_PROBLEMS)
    data["execution"]["heal"] = 0
    data["execution"]["shard_tasks"] = min(_MOST_PROBLEMS, config.execution.shard_tasks)
    data["sampling"]["rollouts"] = 1
    data["ground_truth"]["attempts"] = 0
    for section in ("analysis", "adaptive"):
        data[section]["enabled"] = False
    return parse_config(data)
