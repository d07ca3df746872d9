"""`foreshock eval`: one checkpoint at one prefill level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.batch.cli.endpoint_options import BaseUrlOption, ServedModelOption
from foreshock.batch.cli.engine_options import BatchOption, DeviceOption, DtypeOption, FormatOption
from foreshock.batch.cli.options import (
    ForceOption,
    InstructionsOption,
    JsonOption,
    MaxProblemsOption,
    ProblemsOption,
    SplitOption,
)
from foreshock.batch.cli.prompt_options import (
    ClosingOption,
    OpeningOption,
    StopTokenOption,
    SystemOption,
    TemplateArgOption,
    parse_template_args,
)
from foreshock.batch.cli.verifier_options import (
    AllowWeakSandboxOption,
    VerifierOption,
    VerifierOptionsOption,
    parse_options,
)


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory: checkpoint-N or final.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL to write; samples go beside it.")],
    prefill_tokens: Annotated[int, typer.Option("--prefill-tokens", min=0, help="Prefill level, in words.")] = 0,
    prefill_from: Annotated[
        Path | None, typer.Option("--prefill-from", help="JSONL of exploit traces (task_id, reasoning, ...).")
    ] = None,
    num_attempts: Annotated[int, typer.Option("--num-attempts", min=1, help="Samples per problem.")] = 3,
    problems: ProblemsOption = "builtin",
    split: SplitOption = "eval",
    max_problems: MaxProblemsOption = None,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 takes the likeliest token.")
    ] = 1.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Most tokens of a continuation.")] = 2048,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="String that ends a continuation; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the samples.")] = 0,
    verifier: VerifierOption = "builtin",
    verifier_option: VerifierOptionsOption = None,
    allow_weak_sandbox: AllowWeakSandboxOption = False,
    prompt_format: FormatOption = "auto",
    instructions: InstructionsOption = "full",
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
