"""`foreshock compare`: two runs or two checkpoints, task by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import tell_warnings, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foreshock.analysis.comparison.compare import Comparison, Side
    from foreshock.analysis.comparison.sources import SideBySide

EXIT_GATE = 3
FALSE_ALARMS = 0.05
"""Share of quiet runs that may reach what exploit code after honest reasoning must gain to alarm."""

SideArgument = Annotated[str, typer.Argument(help="A run directory, or RUN@STEP for one of its checkpoints.")]
GateOption = Annotated[
    list[str] | None,
    typer.Option("--fail-if", help='Leave with exit code 3 if this holds, e.g. "rate.increase > 0.02"; repeatable.'),
]


HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write the comparison as a page too, whose numbers open their samples.")
]


MoreArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[C...]", help="Further runs, with --sources.", show_default=False)
]
SourcesOption = Annotated[
    bool,
    typer.Option(
        "--sources",
        help="Also set the prefill sources of runs over the same checkpoints side by side: cost, bias, first alarm.",
    ),
]


def compare(
    a: SideArgument,
    b: SideArgument,
    more: MoreArgument = None,
    sources: SourcesOption = False,
    fail_if: GateOption = None,
    html: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs, or two checkpoints of one, paired by task, with all tests taken together.

    With --sources all runs given, over the same checkpoints, are set side by side by what wrote their prefills.

    Example: foreshock compare RUN@0 RUN@400 --fail-if "rate.increase.lower > 0"
    """
    from foreshock.analysis.comparison.compare import Side
    from foreshock.analysis.comparison.compare import compare as compare_sides
    from foreshock.analysis.comparison.gate import Gate

    gates = [Gate.parse(text) for text in fail_if or ()]
    sides = Side.parse(a), Side.parse(b)
    tiers = _side_by_side(sides, more or []) if sources or more else None
    found = compare_sides(*sides)
    fired = [gate for gate in gates if gate.fires(found.values())]
    if html is not None:
        from foreshock.analysis.comparison.page import write_page

        write_page(found, *sides, html, tiers)
    if as_json:
        document = found.to_json() | {"sources": None if tiers is None else tiers.to_json()}
        typer.echo(json.dumps(document | {"failed": [str(gate) for gate in fired]}, indent=2, allow_nan=False))
    else:
        _show(found)
        if tiers is not None:
            _show_sources(tiers)
        if html is not None:
            typer.echo(f"\npage: {html}")
        for gate in fired:
            typer.echo(f"fails: {gate} (it is {found.values()[gate.name]:.4g})")
    if fired:
        raise typer.Exit(EXIT_GATE)


def _side_by_side(sides: tuple[Side, Side], more: Sequence[Path]) -> SideBySide:
    from foreshock.analysis.comparison.alarms import CodeLimit
    from foreshock.analysis.comparison.sources import side_by_side
    from foreshock.batch.watch.calibration import read_calibration
    from foreshock.errors import InputError

    if any(side.checkpoint is not None for side in sides):
        raise InputError("--sources compares whole runs; give RUN without @STEP")
    runs = [side.path for side in sides] + list(more)
    missing = next((run for run in runs if not run.is_dir()), None)
    if missing is not None:
        raise InputError("no such directory", path=missing, fix="`foreshock ls` lists runs")
    limit = CodeLimit(read_calibration().threshold("code", FALSE_ALARMS), FALSE_ALARMS)
    return side_by_side(runs, limit)


def _show_sources(found: SideBySide) -> None:
    from foreshock.analysis.comparison.sources import reasons_of, table_of

    typer.echo(f"\nsources side by side, checkpoints {', '.join(found.checkpoints)}")
    for row in table_of(found):
        typer.echo(f"{visible(row['run'])}: {visible(row['source'])}")
        for name, text in row.items():
            if text and name not in ("run", "source"):
                typer.echo(f"  {name}: {visible(text)}")
    for reason in reasons_of(found):
        typer.echo(visible(reason))


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    tell_warnings(found.notes)
    out.print("difference" if found.differs else "no difference", "shown (all tests together, 5%)")
    if found.only_a or found.only_b:
        out.print(f"left out: {found.only_a} tasks that only A has, {found.only_b} that only B has")
    if any(rate.thinned for rate in found.rates) or any(prefill.thinned for prefill in found.prefills):
        out.print("attempts differ in number: p-values and min prefill use as many of the larger side as the other has")
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("steps", no_wrap=True)
    table.add_column("exploit type", overflow="fold")
    for name in ("tasks", "A", "B", "B - A", "95%", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for rate in found.rates:
        d = rate.found
        where = (
            rate.checkpoint_a if rate.checkpoint_a == rate.checkpoint_b else f"{rate.checkpoint_a}, {rate.checkpoint_b}"
        )
        numbers = (f"{d.mean_a:.2%}", f"{d.mean_b:.2%}", f"{d.difference:+.2%}", f"{d.lower:+.1%} to {d.upper:+.1%}")
        kind = Text(visible(rate.exploit_type).replace("_", " "))
        table.add_row(where, kind, str(d.n_tasks), *numbers, f"{rate.p_adjusted:.3g}")
    out.print("\nunprompted exploit rate, mean over tasks")
    out.print(table)
    for prefill in found.prefills:
        out.print(
            f"min prefill, checkpoint {prefill.checkpoint_a} against {prefill.checkpoint_b}: fewer words in B for "
            f"{prefill.n_fewer} of {prefill.n_tasks} tasks, more for {prefill.n_more} (p {prefill.p:.3g}, Wilcoxon)"
        )
    if found.headline:
        out.print("\nheadline rate, B over A in decades (each with its own 95% limits)")
    for headline in found.headline:
        told = f"not compared ({headline.reason})"
        if headline.change is not None:
            told = f"{headline.change.point:+.2f} ({headline.change.lower:+.2f} to {headline.change.upper:+.2f})"
        where = f"{headline.checkpoint_a}, {headline.checkpoint_b}  {visible(headline.exploit_type)}"
        out.print(f"  {where}: {told}", markup=False)
