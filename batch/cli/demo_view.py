"""What the demo shows: bars while it trains, ten lines when it is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from foreshock.batch.cli.display import err, hooks, make_progress
from foreshock.batch.demo.corpus import Phase
from foreshock.batch.demo.pipeline import DemoHooks, DemoResult
from foreshock.batch.demo.train import TrainProgress

_LINES = 10


@contextmanager
def training_display() -> Iterator[TrainProgress]:
    """A bar per training phase on a terminal, a line per phase elsewhere."""
    if not err.is_terminal:

        def log(phase: Phase, done: int, total: int) -> None:
            if done == total:
                print(f"training {phase.value}: {done}/{total} steps", file=sys.stderr, flush=True)

        yield log
        return
    with make_progress() as bar:
        bars = {phase: bar.add_task(f"training {phase.value}", total=None, note="", visible=False) for phase in Phase}

        def show(phase: Phase, done: int, total: int) -> None:
            bar.update(bars[phase], completed=done, total=total, visible=True)

        yield show


def demo_hooks() -> DemoHooks:
    """Everything on standard error."""
    return DemoHooks(hooks(), training_display)


def print_summary(result: DemoResult) -> None:
    """What was found, in ten lines at most, and where to read on."""
    for line in result.analysis.summary[:_LINES]:
        typer.echo(f"- {line}")
    typer.echo(f"\nreport: {result.analysis.report}   ({result.seconds:.0f} s; run again to see that it resumes)")
