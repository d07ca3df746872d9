"""`foreshock init`: a first configuration from what lies around."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.tell import tell_notes

if TYPE_CHECKING:
    from foreshock.batch.planning.guess import Guesses


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to look through and to write into.")] = Path(),
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoints", help="Folder of checkpoints; default: found, or asked for.")
    ] = None,
    problems: Annotated[
        str | None, typer.Option("--problems", help="Problem file, or builtin; default: found, or asked for.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option("--traces", help="File of exploit traces; default: found, or asked for.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="auto, transformers, vllm, openai, ...; default: auto, or asked for.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Name of the configuration file.")] = "sweep.yaml",
    site: Annotated[
        bool, typer.Option("--site", help="Write a Slurm profile too (site.yaml), and run on Slurm.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; without a terminal nothing is asked either.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a commented configuration: checkpoints, problems and traces are found by what they hold, and asked about.

    Example: foreshock init --checkpoints runs/a/checkpoints --problems problems.jsonl --traces traces.jsonl --yes
    """
    from foreshock.batch.cli.init_choices import check_choices, choose
    from foreshock.batch.planning.first_config import Choices, beside, config_text, partitions, profile_text
    from foreshock.batch.planning.guess import look_around
    from foreshock.durable import atomic_write_bytes
    from foreshock.errors import InputError

    if not folder.is_dir():
        raise InputError("no such folder", path=folder, fix="name the folder to write the configuration into")
    target, profile = folder / output, folder / "site.yaml"
    taken = [path for path in (target, *([profile] if site else [])) if path.exists()]
    if taken and not force:
        raise InputError("is there already", path=taken[0], fix="--force replaces it, --output names another file")
    asking = not yes and sys.stdin.isatty()
    missing = None in (checkpoints, problems, traces)
    found = look_around(folder.absolute()) if missing else _nothing()
    own_checkpoints = checkpoints or choose(
        "checkpoints", [path for path, _ in found.checkpoints], asking, folder, needed=True
    )
    own_problems = problems or choose("problems", found.problems, asking, folder) or "builtin"
    if problems is None and not found.problems:
        for path, lacking in found.unlike:
            typer.echo(f"not taken for problems: {path}: its first row has no {', '.join(lacking)} (docs/problems.md)")
    own_traces = traces or choose("traces", found.traces, asking, folder)
    if engine is None:
        engine = typer.prompt("engine", default="auto") if asking else "auto"
    assert own_checkpoints is not None
    source = str(own_problems)
    choices = Choices(
        name=_name(Path(own_checkpoints)),
        checkpoints=beside(Path(own_checkpoints), folder),
        problems=source if source == "builtin" or source.startswith("hf:") else beside(Path(source), folder),
        traces=None if own_traces is None else beside(Path(own_traces), folder),
        engine=engine,
        profile=profile.name if site else None,
    )
    text = config_text(choices)
    notes = check_choices(text, target)
    if site:
        atomic_write_bytes(profile, profile_text(partitions()).encode())
        typer.echo(f"written: {profile}: look through it, your account is not in it")
    atomic_write_bytes(target, text.encode())
    typer.echo(f"written: {target}")
    tell_notes(notes)
    if choices.problems not in ("builtin",) and not choices.problems.startswith("hf:"):
        typer.echo(f"next: foreshock check {folder / choices.problems}")
    typer.echo(f"next: foreshock plan {target}")


def _nothing() -> Guesses:
    from foreshock.batch.planning.guess import Guesses

    return Guesses((), (), ())


def _name(checkpoints: Path) -> str:
    from foreshock.batch.config_inputs import CheckpointsConfig

    name = CheckpointsConfig(dir=checkpoints).run_name
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in name)
    return kept.lstrip("._-") or "sweep"
