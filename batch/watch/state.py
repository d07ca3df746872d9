"""What a watch remembers across restarts: `watch/state.json` in its run directory.

It holds only what the run's own files cannot say: which alarms were raised, which estimates were looked at, and how
an evaluated checkpoint looked on disk. What is planned and what is done is read from the plan and the shards, so the
two can never disagree about work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout


@dataclass
class Delivery:
    """How one way of telling an alarm went so far. last, next: times of the last try and earliest of the next, seconds
    since 1970, so that a restart keeps them; waited: seconds between tries in all."""

    tries: int = 0
    last: float = 0.0
    waited: float = 0.0
    next: float = 0.0


@dataclass
class Alarm:
    """One alarm. `id` goes with every delivery, so that a receiver can tell a repeated one.

    `pending` names deliveries still owed (`stop_file`, `webhook`, `command`), `failed` those that have failed at least
    once.
    """

    id: str
    exploit_type: str
    raised: str
    message: str
    facts: dict[str, Any]
    pending: list[str] = field(default_factory=list)
    failed: dict[str, Delivery] = field(default_factory=dict)


@dataclass
class SeenCheckpoint:
    """How a planned checkpoint looked: `signature` when it was last known to be the planned one; `changed` is the
    fingerprint of what lies there instead, once that was reported."""

    signature: str
    changed: str | None = None


@dataclass
class Outlook:
    """Estimates and forecast as of `checkpoints`; `types` has one row per exploit type (see `estimate`)."""

    checkpoints: list[str]
    threshold: float
    horizon: float | None
    types: list[dict[str, Any]]


@dataclass
class WatchState:
    """All of it. `checkpoint_dir` is the folder under watch, absolute."""

    checkpoint_dir: str
    checkpoints: dict[str, SeenCheckpoint] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    outlook: Outlook | None = None

    def write(self, layout: RunLayout) -> None:
        """Make it durable."""
        write_json(state_file(layout), asdict(self))

    @classmethod
    def read(cls, layout: RunLayout) -> WatchState:
        """Raises InputError if the run was not made by a watch."""
        path = state_file(layout)
        data = read_json(path)
        try:
            return cls(
                data["checkpoint_dir"],
                {name: SeenCheckpoint(**seen) for name, seen in data["checkpoints"].items()},
                [_alarm(alarm) for alarm in data["alarms"]],
                None if data["outlook"] is None else Outlook(**data["outlook"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not the state of a watch: {error!r}", path=path) from None

    def raised(self, exploit_type: str) -> bool:
        """Whether this type's alarm was raised before."""
        return any(alarm.exploit_type == exploit_type for alarm in self.alarms)


def _alarm(data: dict[str, Any]) -> Alarm:
    """As written; earlier versions counted `tries` of all ways together, which says nothing of any, and kept the time
    of the first failure."""
    known = {key: value for key, value in data.items() if key != "tries"}
    failed = {
        way: Delivery(**{"last" if key == "since" else key: value for key, value in one.items()})
        for way, one in known.pop("failed", {}).items()
    }
    return Alarm(**known, failed=failed)


def state_file(layout: RunLayout) -> Path:
    """Where the state lies."""
    return layout.root / "watch" / "state.json"
