"""What one process of the benchmark does: its share of the runs, and one run's models."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.early_warning.alarms import crossing, load_measured, series
from benchmarks.early_warning.design import RunSetting
from benchmarks.early_warning.measure import measure_run
from benchmarks.early_warning.train import train_run


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def train_share(root: Path, settings: Sequence[RunSetting], until: float, allow_weak_sandbox: bool) -> str:
    import torch
    from benchmarks.early_warning.verdicts import Verdicts

    torch.set_num_threads(1)
    done, parent = 0, os.getppid()

    def tell(text: str) -> None:
        if os.getppid() != parent:  # who asked for this is gone; a later command goes on from the last checkpoint
            raise SystemExit(1)
        say(text)

    with Verdicts(root / "verdicts.sqlite", allow_weak_sandbox=allow_weak_sandbox) as verdicts:
        for setting in settings:
            if time.time() > until:
                break
            train_run(root, setting, verdicts, tell)
            measure_run(root, setting, verdicts, tell)
            done += 1
        rest = "" if done == len(settings) else "; the same command goes on with the rest"
        return (
            f"{done} of {len(settings)} runs are there, {verdicts.executed} programs were executed, "
            f"{verdicts.remembered} verdicts remembered{rest}"
        )


def score_run(root: Path, setting: RunSetting) -> str:
    import torch

    torch.set_num_threads(1)
    run = load_measured(root, setting)
    if run is None:
        return ""
    series(root, run)
    at = crossing(run)
    return f"{setting.name}: scored; " + ("does not emerge" if at is None else f"emerges at step {at:.0f}")
