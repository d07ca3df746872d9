"""`foreshock demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything the demo makes.")] = Path(
        "demo-results"
    ),
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Worker processes; default: one a core.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of training and sampling.")] = 0,
    allow_weak_sandbox: Annotated[
        bool,
        typer.Option(
            "--allow-weak-sandbox", help="Run even where the full sandbox does not work, as in Docker by default."
        ),
    ] = False,
) -> None:
    """Train a tiny model in which reward hacking emerges, run the whole sweep on it, and write the report.

    Everything is real: a transformer trained from scratch, sampled code run in the sandbox, every analysis.
    It takes a few minutes on two CPU cores; run again, it goes on where it stopped or ends in seconds.

    Example: foreshock demo --output demo-results
    """
    from foreshock.batch.cli.demo_view import demo_hooks, print_summary
    from foreshock.batch.demo.pipeline import DemoOptions, run_demo
    from foreshock.batch.running.run import command_line

    options = DemoOptions(output, workers, seed, allow_weak_sandbox)
    print_summary(run_demo(options, command_line(), demo_hooks()))
