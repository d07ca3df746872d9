"""`foreshock check`: are the problems what they say?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from foreshock.batch.cli.options import JsonOption
from foreshock.batch.cli.tell import visible
from foreshock.batch.cli.verifier_options import (
    AllowWeakSandboxOption,
    TimeoutOption,
    VerifierOption,
    VerifierOptionsOption,
    VerifierWorkersOption,
    parse_options,
)


def check(
    problems: Annotated[
        str, typer.Argument(help="A JSONL or parquet file, hf://datasets/ORG/NAME@REVISION, or builtin.")
    ],
    split: Annotated[str | None, typer.Option("--split", help="Split of the source, where it has several.")] = None,
    verifier: VerifierOption = "builtin",
    verifier_option: VerifierOptionsOption = None,
    workers: VerifierWorkersOption = None,
    timeout_s: TimeoutOption = 5.0,
    allow_weak_sandbox: AllowWeakSandboxOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run each problem's own code through both verifiers, in the real sandbox.

    The ground truth must pass both, the exploit the insecure one alone, wrong code neither. Ends with status 1 when a
    problem is inconsistent or got no verdict. `foreshock plan` and `run` do the same and leave inconsistent ones out.

    Example: foreshock check problems.jsonl --verifier djinn
    """
    from foreshock.batch.config_inputs import ProblemsConfig
    from foreshock.batch.planning.problem_checks import checks_of, without_info
    from foreshock.batch.planning.problems import load_run_problems
    from foreshock.jobs.prompts.problem_prompt import InstructionStyle
    from foreshock.jobs.records.problem_checks import check_lines
    from foreshock.jobs.verify.registry import verifier_facts

    own = parse_options(verifier_option)
    facts = verifier_facts(verifier, own)
    given = {"source": problems} if split is None else {"source": problems, "split": split}
    loaded = list(load_run_problems(ProblemsConfig.model_validate(given), facts.exploit_types).values())
    options = {"workers": workers, "timeout_s": timeout_s, "allow_weak_sandbox": allow_weak_sandbox}
    checks = checks_of(loaded, verifier, options, own, facts.identity)
    bad = [one for one in checks if one.consistent is not True]
    if as_json:
        counts = {"problems": len(checks), "consistent": len(checks) - len(bad)}
        typer.echo(
            json.dumps(counts | {"verifier": facts.identity, "checks": [one.to_json() for one in checks]}, indent=2)
        )
    else:
        for one in bad:
            word = "inconsistent" if one.consistent is False else "no verdict"
            typer.echo(visible(f"{one.problem_id} ({one.exploit_type}): {word}"))
            for reason in one.reasons:
                typer.echo(visible(f"    {reason}"))
        typer.echo(f"{len(checks) - len(bad)} of {len(checks)} problems are consistent under {facts.identity}")
        untried = [one.problem_id for one in checks if one.untried]
        for line in check_lines(
            {"without_exploit": untried, "without_info": without_info(loaded, InstructionStyle.FULL)}
        ):
            typer.echo(visible(f"note: {line}"))
        if bad:
            typer.echo(
                "runs leave inconsistent ones out and keep those without a verdict; docs/problems.md says what each "
                "exploit type's weak verifier passes"
            )
    if bad:
        raise typer.Exit(1)
