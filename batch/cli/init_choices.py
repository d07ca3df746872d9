"""What `foreshock init` settles: one file of several, asked for or refused, and whether the choices fit together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer
import yaml

from foreshock.batch.config_file import parse_config
from foreshock.batch.planning.checkpoints import discover_checkpoints
from foreshock.batch.planning.problems import load_run_problems
from foreshock.batch.site import engine_choice
from foreshock.counted import counted
from foreshock.errors import InputError
from foreshock.jobs.prefill import load_prefill_source
from foreshock.jobs.verify.registry import verifier_facts

_OPTION = {"checkpoints": "--checkpoints", "problems": "--problems", "traces": "--traces"}
_NONE = {
    "checkpoints": "no folder of checkpoints here",
    "problems": "no problem file here: the built-in problems",
    "traces": "no trace file here: level 0 alone",
}


def choose(what: str, found: Sequence[Path], asking: bool, folder: Path, *, needed: bool = False) -> Path | None:
    """The one that is meant. Several are asked about or, where nobody can be asked, refused. None: there is none."""
    shown = [path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path for path in found]
    if asking:
        for path in shown:
            typer.echo(f"found {what}: {path}")
        default = str(shown[0]) if len(shown) == 1 else ("" if not needed else None)
        given = typer.prompt(f"{what} ({_hint(what)})", default=default, show_default=bool(default))
        return folder / given if given else None
    if len(found) > 1:
        listed = "\n  ".join(map(str, shown))
        raise InputError(f"several {what} here:\n  {listed}", fix=f"name one with {_OPTION[what]}")
    if not found:
        if needed:
            raise InputError(_NONE[what], path=folder, fix=f"name one with {_OPTION[what]}")
        typer.echo(_NONE[what])
        return None
    typer.echo(f"{what}: {shown[0]}")
    return found[0]


def _hint(what: str) -> str:
    return {"checkpoints": "folder", "problems": "file; empty: built-in", "traces": "file; empty: level 0 alone"}[what]


def check_choices(text: str, target: Path) -> list[str]:
    """What there is to know before a plan. Raises InputError for choices that no plan could be made of."""
    config = parse_config(yaml.safe_load(text), target)
    checkpoints = discover_checkpoints(config.checkpoints)
    names = ", ".join(checkpoint.name for checkpoint in checkpoints[:8])
    notes = [f"{counted(len(checkpoints), 'checkpoint')}: {names}{', ...' if len(checkpoints) > 8 else ''}"]
    problems = load_run_problems(config.problems, verifier_facts(config.verifier.name, {}).exploit_types)
    notes[0] += f"; {counted(len(problems), 'problem')}"
    if config.prefill.source is not None:
        source = load_prefill_source(config.prefill.source)
        n = sum(task in source.traces for task in problems)
        if n == 0:
            raise InputError(
                f"no task_id of its traces is the id of a problem (traces have e.g. {next(iter(source.traces))!r}, "
                f"problems {next(iter(problems))!r})",
                path=config.prefill.source,
                fix="name the traces that were made from these problems, or the problems with --problems",
            )
        notes[0] += f", {n} of them with a trace"
    if config.execution.cluster.value != "slurm":
        choice = engine_choice(config)
        notes.append(f"engine {choice.name}" + (f": {choice.reason}" if choice.reason else ""))
    return notes
