"""Single steps of a run, on any files in the same formats: eval, logprob, aggregate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.options import ForceOption, JsonOption
from foreshock.batch.cli.prompt_options import (
    ClosingOption,
    OpeningOption,
    StopTokenOption,
    SystemOption,
    TemplateArgOption,
    parse_template_args,
)
from foreshock.batch.cli.verifier_options import VerifierOption, VerifierOptionsOption, parse_options

DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
FormatOption = Annotated[str, typer.Option("--prompt-format", help="auto, chat, harmony, think or plain.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Rows per batch.")]


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory: checkpoint-N or final.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL to write; samples go beside it.")],
    prefill_tokens: Annotated[int, typer.Option("--prefill-tokens", min=0, help="Prefill level, in words.")] = 0,
    prefill_from: Annotated[
        Path | None, typer.Option("--prefill-from", help="JSONL of exploit traces (task_id, reasoning, ...).")
    ] = None,
    num_attempts: Annotated[int, typer.Option("--num-attempts", min=1, help="Samples per problem.")] = 3,
    problems: Annotated[str, typer.Option("--problems", help="builtin, a JSONL or parquet file.")] = "builtin",
    split: Annotated[str, typer.Option("--split")] = "eval",
    max_problems: Annotated[int | None, typer.Option("--max-problems", min=1)] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 1.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1)] = 2048,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="String that ends a continuation; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    verifier: VerifierOption = "builtin",
    verifier_option: VerifierOptionsOption = None,
    allow_weak_sandbox: Annotated[bool, typer.Option("--allow-weak-sandbox")] = False,
    prompt_format: FormatOption = "auto",
    instructions: Annotated[str, typer.Option("--instructions", help="full, bare, djinn, or a text file.")] = "full",
    system: SystemOption = None,
    template_arg: TemplateArgOption = None,
    opening: OpeningOption = None,
    closing: ClosingOption = None,
    stop_token_id: StopTokenOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 64,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate one checkpoint at one prefill level. Interrupted, the same command goes on where it stopped.

    Example: foreshock eval checkpoint-40 -o evals/checkpoint-40_prefill0.jsonl --problems problems.jsonl
    """
    from foreshock.batch.cli.display import hooks
    from foreshock.batch.config_file import with_endpoint
    from foreshock.batch.running.one_cell import evaluate_one, one_cell_config
    from foreshock.batch.running.run import command_line

    sections: dict[str, Any] = {
        "prefill": {"source": None if prefill_from is None else str(prefill_from)},
        "problems": {"source": problems, "split": split, "max_problems": max_problems},
        "sampling": {
            "attempts": num_attempts,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "stop": stop or [],
            "stop_token_ids": stop_token_id or [],
            "seed": seed,
        },
        "prompt": {
            "format": prompt_format,
            "system": system,
            "instructions": instructions,
            "template_args": parse_template_args(template_arg),
            "opening": opening,
            "closing": closing,
        },
        "engine": with_endpoint({"device": device, "dtype": dtype, "batch_size": batch_size}, base_url, served_model),
        "verifier": {
            "name": verifier,
            "allow_weak_sandbox": allow_weak_sandbox,
            "options": parse_options(verifier_option),
        },
        "execution": {"workers": 1},
    }
    config = one_cell_config(checkpoint, prefill_tokens, sections)
    done = evaluate_one(config, output, command_line(), hooks(), force)
    document = {k: str(v) if isinstance(v, Path) else v for k, v in ((n, getattr(done, n)) for n in done.__slots__)}
    typer.echo(
        json.dumps(document, indent=2) if as_json else f"{done.n_rows} rows: {done.output}\nsamples: {done.samples}"
    )


def logprob(
    samples: Annotated[Path | None, typer.Argument(help="One samples file to score (with --checkpoint).")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Checkpoint that scores the file.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Logprob JSONL to write.")] = None,
    prefill_run_dir: Annotated[
        Path | None, typer.Option("--prefill-run-dir", help="Score a whole run: its directory.")
    ] = None,
    sft_run_dir: Annotated[
        Path | None, typer.Option("--sft-run-dir", help="Training run whose checkpoints score it.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Run directory to write logprob/ in; default: the run itself.")
    ] = None,
    max_samples: Annotated[int | None, typer.Option("--max-samples", min=1, help="At most this many per cell.")] = None,
    use_reasoning_field: Annotated[
        bool, typer.Option("--use-reasoning-field", help="Score `reasoning` cut at the level, not `prefill_reasoning`.")
    ] = False,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 counts as 1.")
    ] = 1.0,
    prompt_format: FormatOption = "auto",
    template_arg: TemplateArgOption = None,
    opening: OpeningOption = None,
    closing: ClosingOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    batch_size: BatchOption = 64,
    base_url: BaseUrlOption = None,
    served_model: ServedModelOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score prefills: log P(prefill | prompt) under a checkpoint, summed over the prefill's tokens, in nats.

    Either one file (SAMPLES --checkpoint DIR --output FILE) or a whole run (--prefill-run-dir RUN --sft-run-dir SFT).
    Rows are rendered as they say they were; --template-arg, --opening and --closing replace what they say. Exits with
    1 if rows could not be scored.

    Example: foreshock logprob --prefill-run-dir RUN --sft-run-dir SFT
    """
    from foreshock.batch.on_files.score import ScoreOptions, score_one_file, score_run
    from foreshock.errors import InputError

    options = ScoreOptions(
        temperature,
        prompt_format,
        device,
        dtype,
        batch_size,
        use_reasoning_field,
        max_samples,
        force,
        base_url,
        served_model,
        parse_template_args(template_arg),
        opening,
        closing,
    )
    if samples is not None and checkpoint is not None and output is not None:
        report = score_one_file(samples, checkpoint, output, options)
    elif prefill_run_dir is not None and sft_run_dir is not None and samples is None:
        report = score_run(prefill_run_dir, sft_run_dir, output_dir, options)
    else:
        raise InputError(
            "give either SAMPLES with --checkpoint and --output, or --prefill-run-dir with --sft-run-dir",
            fix="foreshock logprob --help",
        )
    if as_json:
        typer.echo(json.dumps(vars(report), indent=2, default=str))
        if report.n_failed:
            raise typer.Exit(1)
        return
    typer.echo(f"{report.n_rows} rows in {len(report.files)} files; {report.n_failed} failed")
    if report.kept:
        typer.echo(f"{len(report.kept)} files were there and are kept (--force replaces them)")
    if report.n_without_prefill:
        typer.echo(f"{report.n_without_prefill} rows had no prefill and are left out")
    for cell, donor in report.borrowed.items():
        typer.echo(f"{cell}: no samples of its own, prefills taken from {donor}")
    if report.n_failed:
        raise typer.Exit(1)


def aggregate(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: JsonOption = False,
) -> None:
    """Write a run's final tables from its finished shards. Safe at any time; says what is missing.

    Example: foreshock aggregate RUN
    """
    from foreshock.analysis.aggregate import aggregate as aggregate_run
    from foreshock.jobs.records.layout import RunLayout

    report = aggregate_run(RunLayout(run_dir))
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
        return
    typer.echo(
        f"{report.files} files: {report.n_eval} eval, {report.n_logprob} logprob, "
        f"{report.n_ref_logprob} donor logprob, "
        f"{report.n_kl} KL, {report.n_ground_truth} ground-truth rows; {report.n_errors} errors"
    )
    for item in report.missing:
        typer.echo(f"missing: {item['kind']} {item['checkpoint']} levels {item['levels']} shard {item['shard']}")
