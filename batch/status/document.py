"""What is said of a run's state, whoever planned it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from foreshock.jobs.records.jsonl import read_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.verdicts import unread_note

_SHOWN = 3


@dataclass
class CellStatus:
    """One cell of one kind. `state`: done, partial, running, queued, preempted, unknown, failed or missing."""

    kind: str
    checkpoint: str
    level: int | None
    rows_total: int = 0
    rows_done: int = 0
    n_errors: int = 0
    exploits: int = 0
    unread: int = 0
    """Responses without code, or with code that does not compile."""
    state: str = "missing"


@dataclass
class RunStatus:
    """A run's state. Rates are rows per second over the live workers; `eta_seconds` is None when nothing moves."""

    run: str
    status: str
    exit_reason: str | None
    rows_total: int
    rows_done: int
    rows_per_second: float | None
    eta_seconds: float | None
    cells: list[CellStatus]
    tasks: list[dict[str, Any]]
    failures: list[str]
    gpu_hours: float | None = None
    lost_gpu_hours: float | None = None
    """Part of `gpu_hours`: attempts that failed."""
    queue_hours: float | None = None
    """Hours that attempts waited in the queue."""
    tokens_per_second: float | None = None
    """Tokens sampled a second of sampling, over sealed shards."""
    prefix_hit_rate: float | None = None
    """Share of prompt tokens that the engine found in its prefix cache, where it counts them."""
    notes: list[str] = field(default_factory=list)
    """What jobs wait for, submissions that did not go through, nodes that fail, cells that could not be read."""
    behaviour: list[dict[str, Any]] = field(default_factory=list)
    """Shares of each checkpoint's level-0 rows that end their turn, close their reasoning, have code that compiles."""
    alarms: list[str] = field(default_factory=list)
    """Such shares that are low, or jump between checkpoints."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def unread_notes(cells: Sequence[CellStatus]) -> list[str]:
    """A warning for each of the worst cells of which too much could not be read."""
    worst = sorted(cells, key=lambda cell: -cell.unread / max(1, cell.rows_done))
    found = [
        unread_note(cell.unread, cell.rows_done, cell.exploits, f"{cell.kind} {cell.checkpoint} level {cell.level}")
        for cell in worst
    ]
    notes = [note for note in found if note is not None]
    more = [f"and {len(notes) - _SHOWN} more cells like these"] if len(notes) > _SHOWN else []
    return notes[:_SHOWN] + more


def status_document(layout: RunLayout) -> dict[str, Any]:
    """`status.json`; empty where there is none."""
    if not layout.status.is_file():
        return {}
    document = read_json(layout.status)
    return document if isinstance(document, dict) else {}
