"""A training run that writes its checkpoints one after another, and a watch over it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.config import RunConfig
from foreshock.batch.running.run import RunHooks, new_run_dir
from foreshock.batch.watch.grow import find_run
from foreshock.batch.watch.loop import Watcher
from foreshock.batch.watch.options import WatchOptions
from foreshock.jobs.records.layout import RunLayout


class Training:
    """Saves copies of finished checkpoints into `folder`, whole or in part."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source, self.folder = source, folder
        folder.mkdir(parents=True)

    def save(self, step: int | str, of: int = 1, without: tuple[str, ...] = ()) -> Path:
        """Write checkpoint `step` with the weights of the source's checkpoint `of`, long ago."""
        name = step if isinstance(step, str) else f"checkpoint-{step}"
        path = self.folder / name
        path.mkdir(exist_ok=True)
        for file in sorted((self.source / f"checkpoint-{of}").iterdir()):
            if file.name not in without:
                shutil.copy(file, path / file.name)
                os.utime(path / file.name, (time.time() - 600, time.time() - 600))
        return path


@pytest.fixture
def training(tmp_path: Path, sft_run: Path) -> Training:
    return Training(sft_run / "checkpoints", tmp_path / "live" / "checkpoints")


@pytest.fixture
def watch_settings(make_config: Callable[..., RunConfig], training: Training) -> RunConfig:
    """A small run over the training's folder: two levels, few rows."""
    return make_config(
        checkpoints={"dir": str(training.folder)},
        problems={"max_problems": 4},
        prefill={"levels": [0, 10]},
        sampling={"attempts": 1, "max_tokens": 4},
        analysis={"enabled": True},
    )


class Watch:
    """Starts watchers over one folder, as restarts of the command would, and keeps what they said."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.events: list[dict[str, Any]] = []

    def start(self, **options: Any) -> Watcher:
        """A new watcher that has read the disk and nothing else."""
        self.events = []
        layout = find_run(self.config.checkpoints.dir, self.config.results_dir) or RunLayout(new_run_dir(self.config))
        chosen = WatchOptions(**{"poll_s": 0.01, "settle_s": 5.0, "report": False, "alarm_probability": 1.1} | options)
        return Watcher(self.config, chosen, layout, ["foreshock", "watch"], RunHooks(), self.events.append)

    def once(self, **options: Any) -> Watcher:
        """Start, look once, end."""
        watcher = self.start(**options)
        watcher.run(once=True)
        return watcher

    def said(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]

    def names(self, event: str) -> list[str]:
        return [e["checkpoint"] for e in self.said(event)]


@pytest.fixture
def watch(watch_settings: RunConfig) -> Watch:
    return Watch(watch_settings)


@pytest.fixture
def make_watch() -> Callable[[RunConfig], Watch]:
    """A watch over any configuration."""
    return Watch
