"""What `emergence` and `forecast` are asked alike: which runs, which exploit types, from what rate on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from foreshock.analysis.surfaces.cells import RunSource
    from foreshock.jobs.records.exploit_types import IntentionalTypes

RunDirs = Annotated[list[Path] | None, typer.Option("--run-dir", help="A run directory; give the option once per run.")]
ExploitEvals = Annotated[
    Path | None, typer.Option("--exploit-evals", help="The exploit-trained run (its directory or its evals/ folder).")
]
ControlEvals = Annotated[
    Path | None, typer.Option("--control-evals", help="The control run (its directory or its evals/ folder).")
]
ExploitLogprobs = Annotated[
    Path | None,
    typer.Option(
        "--exploit-logprobs",
        help="Exploit run: folder of its exploit code's log-probabilities; default: its exploit_logprob/.",
    ),
]
ControlLogprobs = Annotated[
    Path | None,
    typer.Option(
        "--control-logprobs",
        help="Control run: folder of its exploit code's log-probabilities; default: its exploit_logprob/.",
    ),
]
RateThreshold = Annotated[float, typer.Option("--threshold", help="Unprompted exploit rate that counts as emerged.")]
AllTypes = Annotated[bool, typer.Option("--all-types", help="Include exploit types that are not intentional.")]
Intentional = Annotated[
    str | None,
    typer.Option(
        "--intentional", help="Intentional exploit types: current (default), original, or a list with commas."
    ),
]
Figures = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of permutations and posterior draws.")]


def chosen_types(all_types: bool, intentional: str | None) -> IntentionalTypes | None:
    """The intentional exploit types that the options name; None for all types."""
    from foreshock.errors import InputError
    from foreshock.jobs.records.exploit_types import INTENTIONAL, intentional_types

    if all_types and intentional is not None:
        raise InputError("--all-types and --intentional contradict each other; give one of them")
    if all_types:
        return None
    return INTENTIONAL if intentional is None else intentional_types(intentional)


def run_sources(
    run_dirs: list[Path] | None,
    exploit: Path | None,
    control: Path | None,
    exploit_logprobs: Path | None,
    control_logprobs: Path | None,
) -> list[RunSource]:
    """The runs that the options name. Raises InputError where they name none."""
    from foreshock.analysis.surfaces.cells import RunSource
    from foreshock.errors import InputError

    sources = [RunSource(path) for path in run_dirs or []]
    if exploit is not None:
        sources.append(RunSource(exploit, "exploit", exploit_logprobs))
    if control is not None:
        sources.append(RunSource(control, "control", control_logprobs))
    if not sources:
        raise InputError(
            "no run was named", fix="pass --run-dir DIR (once per run), or --exploit-evals DIR --control-evals DIR"
        )
    return sources
