"""Options that analyses share, and the run they read where none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FiguresOption = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
ThresholdOption = Annotated[
    int, typer.Option("--threshold", min=0, help="Words at or below which a task is easily exploitable.")
]
IntentionalOption = Annotated[
    str,
    typer.Option("--intentional", help="Intentional exploit types: current, original, or a list with commas."),
]
AttemptsOption = Annotated[
    int | None,
    typer.Option("--attempts", min=1, help="Count only the first K attempts, to compare sweeps at equal attempts."),
]
RunContextOption = Annotated[
    bool,
    typer.Option(
        "--use-run-context",
        help="Write into a new dated directory with config, metadata and status: in --output-dir, or "
        "results/full_analysis.",
    ),
]


def newest_run() -> Path:
    """The newest run under results/. Raises InputError where there is none."""
    from foreshock.errors import InputError
    from foreshock.jobs.records.layout import ResultsLayout

    runs = ResultsLayout(Path("results")).runs()
    if not runs:
        raise InputError("no run under results/prefill_sensitivity", fix="name one with --run-dir")
    return runs[0].root
