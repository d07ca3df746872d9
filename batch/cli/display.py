"""What a person sees while work goes on: a bar with rate and ETA on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from foreshock.batch.cli.tell import visible
from foreshock.batch.running.execute import OnSnapshot, Snapshot
from foreshock.batch.running.run import RunHooks

_LOG_EVERY_S = 15.0

err = Console(stderr=True, highlight=False)
"""Everything for people goes to standard error; standard output is for results."""


class _RateColumn(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


def make_progress() -> Progress:
    """The house progress bar."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _RateColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=err,
        transient=False,
    )


@contextmanager
def sweep_display(title: str) -> Iterator[OnSnapshot]:
    """A progress display for a sweep."""
    if not err.is_terminal:
        yield _LogLines(title)
        return
    with make_progress() as bar:
        task = bar.add_task(title, total=None, note="")

        def show(now: Snapshot) -> None:
            note = f"{now.exploits} exploits · {', '.join(filter(None, now.doing))}"
            bar.update(task, completed=now.rows_done, total=now.rows_total, note=note)

        yield show


@contextmanager
def count_bar(title: str, unit: str = "bytes") -> Iterator[Callable[[int, int], None]]:
    """A bar to be called with what is done and what there is; nothing where there is no terminal."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    with make_progress() as bar:
        task = bar.add_task(title, total=None, note=unit)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _LogLines:
    """A line at the start, every quarter of a minute and at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._next = 0.0
        self._started = time.monotonic()
        self._first: int | None = None

    def __call__(self, now: Snapshot) -> None:
        clock = time.monotonic()
        if self._first is None:
            self._first = now.rows_done
        if clock < self._next and now.rows_done < now.rows_total:
            return
        if now.rows_done >= now.rows_total and self._next == float("inf"):
            return
        self._next = float("inf") if now.rows_done >= now.rows_total else clock + _LOG_EVERY_S
        rate = (now.rows_done - self._first) / max(clock - self._started, 1e-9)
        left = f", about {(now.rows_total - now.rows_done) / rate:.0f} s left" if rate > 0 else ""
        print(
            f"{self._title}: {now.rows_done}/{now.rows_total} rows, {rate:.0f}/s{left}; {now.exploits} exploits",
            file=sys.stderr,
            flush=True,
        )


def say(text: str) -> None:
    """A line for people; control characters, which names of other people's tasks can hold, are written out."""
    err.print(visible(text), markup=False, soft_wrap=True)


def hooks() -> RunHooks:
    """Hooks that show a run's progress on standard error."""
    return RunHooks(display=sweep_display, say=say)
