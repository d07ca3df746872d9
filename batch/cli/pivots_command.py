"""Where traces turn to the exploit: pivots."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption, one_of


def pivots(
    traces: Annotated[Path, typer.Argument(help="Prefill source, or *.samples.jsonl: task_id, reasoning, ...")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Prefill source to write: the traces cut at their pivots.")
    ] = None,
    places: Annotated[Path | None, typer.Option("--places", help="JSONL to write: where each pivot is.")] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="from: what follows the pivot; until: all up to its sentence's end.")
    ] = "from",
    method: Annotated[
        str, typer.Option("--method", help="contrast, markers, or auto: contrast with 20 traces of either outcome.")
    ] = "auto",
    pattern: Annotated[
        list[str] | None,
        typer.Option("--pattern", help="Regular expression in place of the built-in markers; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find where in each trace the exploit idea first appears, and cut prefills there.

    Traces without a pivot are counted and left out. Where the file also has traces that ended without an exploit, the
    share of them in which one is found says how far to trust the markers.

    Example: foreshock pivots traces.jsonl --keep from --output pivot_traces.jsonl
    """
    from foreshock.batch.on_files.pivots import Method, Part, find_pivots
    from foreshock.errors import InputError
    from foreshock.jobs.records.jsonl import write_jsonl

    part, how = one_of("--keep", keep, Part), one_of("--method", method, Method)
    try:
        patterns = [re.compile(text, re.I) for text in pattern or []]
    except re.error as error:
        raise InputError(f"--pattern is no regular expression: {error}") from None
    report = find_pivots(traces, part, how, patterns)
    if output is not None:
        write_jsonl(output, report.source)
    if places is not None:
        write_jsonl(places, report.rows)
    found = report.to_json()
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    place = found["median_fraction"]
    middle = "" if place is None else f", the middle one at {place:.0%} of its words"
    typer.echo(
        f"{found['with_pivot']} of {found['exploit_traces']} exploit traces have a pivot{middle} ({found['method']})"
    )
    if found["other_traces"]:
        typer.echo(f"of traces without an exploit, {found['other_traces_with_pivot']} of {found['other_traces']} do")
    for path in (output, places):
        if path is not None:
            typer.echo(f"written: {path}")
