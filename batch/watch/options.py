"""What a user asks of a watch, beyond how checkpoints are evaluated.

None of this is part of the run. A watch may be restarted with another threshold, webhook or end, and goes on with the
same rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.watch.deliver import alarms_in
from foreshock.errors import InputError

STOP_FILE, WEBHOOK, COMMAND = "stop_file", "webhook", "command"
"""The ways an alarm goes out."""


SCORES = {"trace": "whole exploit traces", "code": "exploit code after honest reasoning"}
"""What a type can alarm by, beside the forecast: by its name in a calibration, in words."""
_KEYS = {"trace": "logprob.whole_trace, prefill.source", "code": "logprob.honest_reasoning"}


@dataclass(frozen=True, slots=True)
class ScoreLimit:
    """Nats that a score, one of `SCORES`, must have gained since the first checkpoint."""

    statistic: str
    nats: float

    @property
    def column(self) -> str:
        """Where an estimate's row has the change."""
        return f"{self.statistic}_change"

    @property
    def what(self) -> str:
        """The score in words."""
        return SCORES[self.statistic]

    @property
    def keys(self) -> str:
        """The configuration that makes the score."""
        return _KEYS[self.statistic]


@dataclass(frozen=True)
class WatchOptions:
    """What does not belong to the run: when to look, when to alarm, whom to tell, when to end.

    alarm_probability, score: a type alarms when its forecast, or the change of a score, reaches one.
    until: a step, or infinity for `final`; the watch ends when a checkpoint at or after it is evaluated.
    """

    poll_s: float = 60.0
    settle_s: float = 30.0
    threshold: float = 0.10
    horizon: float | None = None
    alarm_probability: float = 0.5
    score: ScoreLimit | None = None
    webhook: str | None = None
    on_alarm: str | None = None
    exit_on_alarm: bool = False
    stop_file: Path | None = None
    until: float | None = None
    report: bool = True

    @property
    def deliveries(self) -> list[str]:
        """Names of the ways an alarm goes out, the quickest first."""
        ways = ((STOP_FILE, self.stop_file), (WEBHOOK, self.webhook), (COMMAND, self.on_alarm))
        return [name for name, given in ways if given]


def until_step(text: str) -> float:
    """A step, or infinity for `final`. Raises InputError for anything else."""
    if text == "final":
        return float("inf")
    try:
        step = int(text)
    except ValueError:
        step = -1
    if step >= 0:
        return float(step)
    raise InputError(f"--until-step: {text!r} is not a step; valid: a whole number, or final")


def check_stop_file(path: Path) -> None:
    """Raise InputError where it could not be written at an alarm, and where a file is that no watch has written."""
    folder = next((parent for parent in path.absolute().parents if parent.exists()), None)
    if path.is_dir() or folder is None or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("--stop-file: no file can be written here", path=path, fix="name a file in a folder of yours")
    alarms_in(path)


def watched_folder(folder: Path) -> Path:
    """The folder under watch, absolute; it need not hold anything yet. Raises InputError if it is not a folder."""
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise InputError(
            "no such folder to watch", path=path, fix="give the folder that training saves checkpoint-N in"
        )
    return path
