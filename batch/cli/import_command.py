"""`foreshock import`: other tools' sample logs as a run of level-0 evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_samples(
    files: Annotated[
        list[Path], typer.Argument(help="inspect logs (.eval), lm-eval's samples_*.jsonl, rollouts (.jsonl, .parquet).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New run directory.")],
    exploit: Annotated[
        str | None, typer.Option("--exploit", help="Field that says exploit: scores.exploit, exact_match, metadata.x.")
    ] = None,
    secure: Annotated[str | None, typer.Option("--secure", help="Field of the sound verifier's verdict.")] = None,
    insecure: Annotated[str | None, typer.Option("--insecure", help="Field of the weak verifier's verdict.")] = None,
    checkpoint: Annotated[int | None, typer.Option("--checkpoint", min=0, help="Training step of all samples.")] = None,
    step: Annotated[str | None, typer.Option("--step", help="Field that holds each sample's training step.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Field of the problem's id; default: the format's.")
    ] = None,
    exploit_type: Annotated[
        str | None, typer.Option("--exploit-type", help="Field of the exploit type, or one type for all.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Field of the prompt; default: the format's.")] = None,
    response: Annotated[
        str | None, typer.Option("--response", help="Field of the answer's text; default: the format's.")
    ] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", help="Of lm-eval's filters, the one whose verdicts count.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="inspect, lm-eval or rollouts; default: by the file's name.")
    ] = None,
) -> None:
    """Make a run of level-0 evaluations from other tools' samples. What counts as an exploit is yours to name.

    Report, rates, forecast, view and compare then work on it. Files of several checkpoints go in with --step.

    Example: foreshock import rollouts.parquet -o runs/rl --step global_step --exploit hacked --task prompt_id
    """
    from foreshock.analysis.importing.rows import Mapping, read_rows, write_run
    from foreshock.analysis.importing.sources import guess_format
    from foreshock.errors import InputError

    kinds = {kind or guess_format(path) for path in files}
    if len(kinds) > 1:
        raise InputError(
            f"files of several formats: {', '.join(sorted(kinds))}", fix="import them one format at a time"
        )
    mapping = Mapping(exploit, secure, insecure, task, exploit_type, step, checkpoint, filter_name, prompt, response)
    done = read_rows(files, kinds.pop(), mapping)
    written = write_run(done, output)
    typer.echo(f"{done.total} samples at {len(written)} checkpoints: {output}")
    if done.without_verdict:
        typer.echo(f"note: {done.without_verdict} samples have no verdict and count nowhere; {done.failed} failed")
    if done.untyped:
        typer.echo(f"note: {done.untyped} samples have no exploit type and are called unknown; --exploit-type names it")
    if done.named_type:
        typer.echo(f"note: {exploit_type!r} is no field of {done.named_type} samples, and is their exploit type")
    if done.without_text:
        typer.echo(f"note: {done.without_text} samples have no answer to show in `view`; --response names its field")
    typer.echo(f"next: foreshock report --run-dir {output}")
