"""The grid of a run stays readable, however many checkpoints it has."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from foreshock.batch.cli.status_view import render
from foreshock.batch.status.document import CellStatus, RunStatus

RUN = RunStatus("run", "running", None, 10, 5, None, None, [], [], [])


def shown(run: RunStatus) -> str:
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render(run))
    return capture.get()


def test_of_thousands_of_checkpoints_those_that_are_not_done_are_shown() -> None:
    cells = [CellStatus("eval", f"checkpoint-{i}", 0, 2, 2, state="done") for i in range(3000)]
    cells[1234] = CellStatus("eval", "checkpoint-1234", 0, 2, 1, state="partial")
    text = shown(replace(RUN, cells=cells))
    assert "checkpoint-1234" in text
    assert "checkpoint-1233" not in text
    assert "2999 of 3000 checkpoints are done" in " ".join(text.split())


def test_what_a_run_used_is_in_the_headline() -> None:
    used = replace(
        RUN, gpu_hours=12.0, lost_gpu_hours=2.5, queue_hours=0.5, tokens_per_second=1500.0, prefix_hit_rate=0.62
    )
    text = " ".join(shown(used).split())
    assert "12.00 GPU hours (2.50 lost in attempts that failed), 0.50 h in the queue" in text
    assert "1500 tokens/s sampled, prefix cache 62%" in text
