"""`foreshock doctor --slurm PROFILE`: canary jobs, and what their findings ask of the profile."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType

import typer


def examine_profile(
    name: str, shared: Path | None, wait_s: float, dry_run: bool, as_json: bool, allow_weak: bool = False
) -> bool:
    """Show what the canaries of a profile found; whether all that runs need was seen to work.

    A sandbox below the full tier is refused by runs, unless they consent (`allow_weak`), and so it is here.
    """
    from foreshock.batch.canaries.findings import all_that_runs_need, judge
    from foreshock.batch.canaries.session import examine_site, show_scripts
    from foreshock.batch.site import site_profile

    profile = site_profile(name)
    final = site_profile(profile.final)
    folder = shared or (Path("results") if Path("results").is_dir() else Path())
    if dry_run:
        scripts = show_scripts(profile, final, folder)
        if as_json:
            typer.echo(json.dumps([{"name": name, "script": text} for name, text in scripts], indent=2))
        else:
            typer.echo("\n".join(f"# ===== {name}\n{text}" for name, text in scripts))
        return True

    signal.signal(signal.SIGTERM, _interrupt)  # the jobs are cancelled as after Ctrl-C

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    findings = judge(examine_site(profile, final, folder, wait_s, say))
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        _show([(f.state, f.what, f.found, f.profile) for f in findings])
    return all_that_runs_need(findings, allow_weak_sandbox=allow_weak)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(rows: list[tuple[str, str, str, str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", "profile", box=None, pad_edge=False)
    marks = {"ok": "[green]ok", "missing": "[red]missing", "unknown": "[yellow]unknown", "weak": "[yellow]weak"}
    for state, *texts in rows:
        table.add_row(marks[state], *map(escape, texts))
    Console(highlight=False).print(table)
