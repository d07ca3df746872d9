"""`foreshock doctor CHECKPOINT`: admission alone, as a page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_config, parse_config
from foreshock.batch.planning.checkpoints import find_checkpoints, one_checkpoint, require_loadable
from foreshock.batch.planning.make_plan import worker_settings
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.admission.admit import Finding, admit
from foreshock.jobs.prompts.of_run import rendering, run_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint


def show_admission(named: str, config_file: Path | None, load: bool, as_json: bool) -> bool:
    """Print the verdict on one checkpoint; returns whether it is admitted. Raises InputError if there is no model."""
    config = load_config(config_file) if config_file is not None else None
    checkpoint = _checkpoint(named, config)
    settings = worker_settings(config or _plain(checkpoint))
    engine, options = settings.engine, settings.engine_options
    findings: list[Finding] = []
    prompt: dict[str, Any] = {}
    try:
        prompt_format = run_format(settings, checkpoint)
        prompt = rendering(settings, prompt_format, load_tokenizer(checkpoint.tokenizer_path))
        findings.append(Finding("ok", "prompts", _prompts(prompt)))
    except InputError as error:
        reason, _, fix = str(error).partition("\n  -> ")
        findings.append(Finding("refused", "prompts", reason, fix))
    admission = admit(checkpoint, engine, options)
    findings += admission.findings
    if load and not any(finding.state == "refused" for finding in findings):
        findings.append(_loaded(checkpoint))
    admitted = not any(finding.state == "refused" for finding in findings)
    if as_json:
        document = {"admitted": admitted, **admission.to_json(), "prompt": prompt}
        typer.echo(json.dumps(document | {"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(checkpoint, admission.fingerprint, findings, admitted)
    return admitted


def _checkpoint(named: str, config: RunConfig | None) -> Checkpoint:
    """The checkpoint in a directory, or the one of a cached revision."""
    if Path(named).expanduser().exists() or "/" not in named or named.startswith((".", "/", "~")):
        found = one_checkpoint(Path(named))
    else:
        section = parse_config({"checkpoints": {"repo": named}, "prefill": {"levels": [0]}}).checkpoints
        several = find_checkpoints(section).checkpoints
        if len(several) > 1:
            names = ", ".join(f"{named}@{c.revision}" for c in several[:3] if c.revision)
            raise InputError(f"{named} holds {len(several)} checkpoints", fix=f"name one of them: {names}")
        found = several[0]
        require_loadable(found)
    own = config.checkpoints.tokenizer if config is not None else None
    return found if own is None else Checkpoint(found.run, found.step, found.path, found.revision, own)


def _plain(checkpoint: Checkpoint) -> RunConfig:
    """What a run over this checkpoint has where nothing is set."""
    return parse_config({"checkpoints": {"dir": str(checkpoint.path)}, "prefill": {"levels": [0]}})


def _prompts(prompt: dict[str, Any]) -> str:
    stops = ", ".join(f"{stop['token']!r} ({stop['id']})" for stop in prompt["stop_tokens"]) or "nothing"
    section = "no reasoning section"
    if prompt["opening"] is not None or prompt["closing"] is not None:
        section = f"reasoning from {prompt['opening']!r} to {prompt['closing']!r}"
    return f"format {prompt['format']}, {section}, ended by {stops}"


def _loaded(checkpoint: Checkpoint) -> Finding:
    from foreshock.jobs.engines.transformers import TransformersEngine

    with TransformersEngine() as engine:
        try:
            engine.load(checkpoint)
        except ForeshockError as error:
            reason, _, fix = str(error).partition("\n  -> ")
            return Finding("refused", "weights", reason, fix)
        return Finding("ok", "weights", f"load, give finite logits, decode {engine.decode_mode.value}")


def _print(checkpoint: Checkpoint, fingerprint: str, findings: list[Finding], admitted: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{escape(str(checkpoint.path))}\n{checkpoint.name}, fingerprint {fingerprint[:12]}\n")
    table = Table("", "what", "found", "to fix it", box=None, pad_edge=False)
    marks = {"ok": "[green]ok", "note": "[yellow]note", "refused": "[red]refused"}
    for finding in findings:
        table.add_row(marks[finding.state], *map(escape, (finding.what, finding.found, finding.fix)))
    console.print(table)
    n = sum(finding.state == "refused" for finding in findings)
    console.print("\n[green]admitted" if admitted else f"\n[red]not admitted: {n} reason{'s' if n > 1 else ''}")
