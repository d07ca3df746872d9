"""A run's status as a grid: one row a checkpoint, one column a level."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from foreshock.batch.status.document import CellStatus, RunStatus
from foreshock.batch.status.read import read_status
from foreshock.jobs.records.checkpoint_names import checkpoint_order
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.marks import MEASURES

_STYLE = {
    "done": "green", "partial": "yellow", "running": "cyan", "queued": "blue", "preempted": "magenta",
    "failed": "red", "missing": "dim", "unknown": "yellow",
}  # fmt: skip
_REFRESH_S = 2.0
_MOST_ROWS = 200
"""Checkpoints that a grid shows: of more, those that are not done, and of behaviour the last ones."""


def show_status(layout: RunLayout) -> None:
    """Print the status once."""
    Console(highlight=False).print(render(read_status(layout)))


def watch_status(layout: RunLayout) -> None:
    """Show the status until the run ends."""
    with Live(render(now := read_status(layout)), refresh_per_second=2) as live:
        while now.status in ("running", "submitted", "planned", "watching"):
            time.sleep(_REFRESH_S)
            live.update(render(now := read_status(layout)))


def render(now: RunStatus) -> RenderableType:
    """The whole view."""
    parts: list[RenderableType] = [_headline(now)]
    kinds = {cell.kind for cell in now.cells}
    shown = ("eval", "logprob", "ref_logprob", "exploit_logprob", "honest_logprob", "ground_truth", "extra")
    parts += [_grid(now, kind) for kind in shown if kind in kinds]
    if now.behaviour:
        parts.append(_behaviour(now))
    parts += [Text(f"behaviour: {alarm}", style="red") for alarm in now.alarms]
    parts += [Text(note, style="yellow") for note in now.notes]
    parts += [Text(f"failed: {message}", style="red") for message in now.failures]
    if now.status in ("stopped", "failed", "interrupted", "incomplete"):
        parts.append(Text("-> foreshock resume goes on from here", style="bold"))
    return Group(*parts)


def _headline(now: RunStatus) -> Text:
    text = Text(f"{now.run}: {now.status}", style="bold")
    text.append(f"  {now.rows_done}/{now.rows_total} rows", style="not bold")
    if now.rows_per_second:
        text.append(f", {now.rows_per_second:.1f}/s", style="not bold")
    if now.eta_seconds is not None:
        text.append(f", ETA {now.eta_seconds / 60:.1f} min", style="not bold")
    if now.gpu_hours is not None:
        text.append(f", {now.gpu_hours:.2f} GPU hours", style="not bold")
    if now.lost_gpu_hours:
        text.append(f" ({now.lost_gpu_hours:.2f} lost in attempts that failed)", style="not bold")
    if now.queue_hours:
        text.append(f", {now.queue_hours:.2f} h in the queue", style="not bold")
    if now.tokens_per_second is not None:
        text.append(f", {now.tokens_per_second:.0f} tokens/s sampled", style="not bold")
    if now.prefix_hit_rate is not None:
        text.append(f", prefix cache {now.prefix_hit_rate:.0%}", style="not bold")
    if now.exit_reason:
        text.append(f"\n{now.exit_reason}", style="not bold")
    return text


def _grid(now: RunStatus, kind: str) -> Table:
    cells = {(cell.checkpoint, cell.level): cell for cell in now.cells if cell.kind == kind}
    levels = sorted({level for _, level in cells}, key=lambda level: -1 if level is None else level)
    title = {"eval": "eval: rows done, exploit rate so far", "logprob": "logprob", "ref_logprob": "donor logprob",
             "exploit_logprob": "exploit code logprob",
             "honest_logprob": "exploit code logprob after honest reasoning"}  # fmt: skip
    table = Table(title=title.get(kind, kind.replace("_", " ")), box=None, title_justify="left", pad_edge=False)
    table.add_column("checkpoint")
    for level in levels:
        table.add_column("all levels" if level is None else f"{level} words", justify="right")
    names = sorted({name for name, _ in cells}, key=checkpoint_order)
    undone = {name for (name, _), cell in cells.items() if cell.state != "done"}
    shown = names if len(names) <= _MOST_ROWS else [name for name in names if name in undone][:_MOST_ROWS]
    for checkpoint in shown:
        table.add_row(checkpoint, *(_cell(cells.get((checkpoint, level)), kind) for level in levels))
    if len(shown) < len(names):
        done = len(names) - len(undone)
        table.caption = f"{done} of {len(names)} checkpoints are done; {len(undone)} are not; --json lists them all"
    return table


def _behaviour(now: RunStatus) -> Table:
    """Of each checkpoint's unprompted rows: the shares that do what a sound model does."""
    table = Table(title="behaviour at level 0", box=None, title_justify="left", pad_edge=False)
    table.add_column("checkpoint")
    for what in MEASURES.values():
        table.add_column(what, justify="right")
    for own in now.behaviour[-_MOST_ROWS:]:
        table.add_row(own["checkpoint"], *("–" if own[name] is None else f"{own[name]:.0%}" for name in MEASURES))
    return table


def _cell(cell: CellStatus | None, kind: str) -> Text:
    if cell is None:
        return Text("")
    if cell.state == "done":
        rate = (
            cell.exploits / cell.rows_total if kind in ("eval", "ground_truth", "extra") and cell.rows_total else None
        )
        return Text("done" if rate is None else f"{rate:6.1%}", style=_STYLE["done"])
    if cell.state in ("queued", "preempted", "unknown"):
        done = f"{cell.rows_done}/{cell.rows_total} " if cell.rows_done else ""
        return Text(f"{done}{cell.state}", style=_STYLE[cell.state])
    if cell.state == "failed":
        return Text(
            f"{cell.n_errors} errors" if cell.n_errors else f"{cell.rows_done}/{cell.rows_total} failed",
            style=_STYLE["failed"],
        )
    return Text(f"{cell.rows_done}/{cell.rows_total}", style=_STYLE[cell.state])
