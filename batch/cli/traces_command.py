"""`foreshock traces`: a prefill source out of samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import tell_gaps, visible
from foreshock.batch.cli.verifier_options import (
    AllowWeakSandboxOption,
    TimeoutOption,
    VerifierOption,
    VerifierOptionsOption,
    VerifierWorkersOption,
    parse_options,
)

if TYPE_CHECKING:
    from foreshock.batch.on_files.naturalness import Naturalness
    from foreshock.batch.traces.of_runs import Judge


def traces(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or files of samples (JSONL).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The prefill source to write (JSONL).")],
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Whose samples; default: each run's last checkpoint.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Of the model to force them on: its control tokens may not be in a trace."),
    ] = None,
    unconditioned: Annotated[
        bool, typer.Option("--unconditioned", help="Keep every draw, exploit or not: weights need no pi/a then.")
    ] = False,
    per_task: Annotated[int | None, typer.Option("--per-task", min=1, help="Most traces a task.")] = None,
    problems: Annotated[
        str | None,
        typer.Option(
            "--problems",
            help="Judge the samples of files in the sandbox, by these problems: a JSONL or parquet file, or builtin.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Split of --problems, where it has several.")] = None,
    verifier: VerifierOption = "builtin",
    verifier_option: VerifierOptionsOption = None,
    workers: VerifierWorkersOption = None,
    timeout_s: TimeoutOption = 10.0,
    allow_weak_sandbox: AllowWeakSandboxOption = False,
    natural_to: Annotated[
        str | None,
        typer.Option(
            "--natural-to",
            metavar="CONFIG[@STEP]",
            help="Also score the traces under a checkpoint of this sweep (default: its first), asked as it asks.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Gather exploit traces for prefills from unprompted samples of a donor, a prompted model or any run.

    Verdicts are the run's own, from the sandbox; those of files are the file's, or with --problems the verifiers'.
    Repetitions, quoted instructions, control tokens and unfinished reasoning are left out and counted. --natural-to
    says how natural each source's reasoning is to the model that it is to be forced on, in nats a token.

    Example: foreshock traces results/prefill_sensitivity/donor-... -o traces.jsonl
    """
    from foreshock.batch.cli.display import say
    from foreshock.batch.traces.of_runs import collect_runs, require_other_file
    from foreshock.jobs.records.jsonl import write_jsonl

    require_other_file(output, runs)
    scored_as = None
    if natural_to is not None:
        from foreshock.batch.on_files.naturalness import ScoredAs, measure

        scored_as = ScoredAs.of_config(natural_to)  # what it refuses, it refuses before anything is read
        tokenizer = tokenizer or scored_as.checkpoint.tokenizer_path
    tell_gaps(*runs)
    options = {"workers": workers, "timeout_s": timeout_s, "allow_weak_sandbox": allow_weak_sandbox}
    with _judge(problems, split, verifier, options, verifier_option) as judge:
        found, sources = collect_runs(
            runs, checkpoint, tokenizer, conditioned=not unconditioned, per_task=per_task, judge=judge
        )
    write_jsonl(output, found.traces)
    natural: list[Naturalness] = []
    if scored_as is not None:
        natural = measure(found.traces, found.sources, [source.what for source in sources], scored_as)
    if as_json:
        document = {
            "output": str(output),
            "traces": len(found.traces),
            "sources": [asdict(source) | {"path": str(source.path)} for source in sources],
            "yields": [asdict(one) for one in found.yields],
            "left_out": dict(found.left_out),
            "natural_to": None if scored_as is None else scored_as.facts(),
            "naturalness": None if scored_as is None else [asdict(one) for one in natural],
        }
        typer.echo(json.dumps(document))
        return
    for source in sources:
        say(f"from {source.what}")
    width = max(len(one.exploit_type) for one in found.yields)
    say(f"{'exploit type':<{width}}  tasks  samples  exploits  traces  tasks with one  median words")
    for one in found.yields:
        words = "" if one.median_words is None else f"{one.median_words:g}"
        say(
            f"{one.exploit_type:<{width}}  {one.tasks:>5}  {one.samples:>7}  {one.exploits:>8}  {one.kept:>6}  "
            f"{one.tasks_with_trace:>14}  {words:>12}"
        )
    for reason, n in found.left_out.items():
        say(f"left out: {n} {reason}")
    if scored_as is not None:
        _show_naturalness(natural, scored_as.checkpoint.name)
    for source in sources:
        if not source.of_run and judge is None:
            say(f"{source.what}: verdicts are the file's own; --problems FILE judges its answers in the sandbox")
        if source.without_text:
            say(f"{source.what}: {source.without_text} attempts of the run have no row in its samples file")
        if not source.controls_known:
            say(f"{source.what}: control tokens were not looked for; --tokenizer DIR names the model to force them on")
    typer.echo(f"{len(found.traces)} traces in {output}")


def _show_naturalness(natural: Sequence[Naturalness], checkpoint: str) -> None:
    from foreshock.batch.cli.display import say

    say(f"natural to {checkpoint}: log-probability per token of the reasoning, nats, mean over tasks (95% over tasks)")
    for one in natural:
        value = "not known" if one.logprob_per_token is None else f"{one.logprob_per_token:.3f}"
        if one.lower95 is not None and one.upper95 is not None:
            value += f" ({one.lower95:.3f} to {one.upper95:.3f})"
        counts = f"{one.scored} of {one.traces} traces, {one.tasks} tasks, {one.tokens} tokens"
        reason = "" if one.reason is None else f"; {visible(one.reason)}"
        say(f"{visible(one.source)}, {visible(one.exploit_type)}: {value}; {counts}{reason}")


@contextmanager
def _judge(
    problems: str | None,
    split: str | None,
    verifier: str,
    options: dict[str, Any],
    verifier_options: Sequence[str] | None,
) -> Iterator[Judge | None]:
    """What judges the samples of files; None without problems."""
    if problems is None:
        yield None
        return
    from foreshock.batch.config_inputs import ProblemsConfig
    from foreshock.batch.planning.problems import load_run_problems
    from foreshock.batch.traces.judge import judged
    from foreshock.jobs.verify.registry import create_verifier, verifier_facts

    own = parse_options(verifier_options)
    given = {"source": problems} if split is None else {"source": problems, "split": split}
    known = load_run_problems(ProblemsConfig.model_validate(given), verifier_facts(verifier, own).exploit_types)
    with create_verifier(verifier, options | own) as judge:
        yield lambda samples: judged(samples, known, judge)
