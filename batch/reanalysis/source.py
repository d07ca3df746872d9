"""What an existing run directory holds, and what its missing log-probabilities could be computed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.analysis.tables.files import refuse_packed
from foreshock.analysis.tables.schema import TableKind
from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.batch.earlier_runs import settings_from_sensitivity_run
from foreshock.batch.planning.checkpoints import find_checkpoints
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_jsonl
from foreshock.jobs.records.layout import CellName, RunLayout
from foreshock.jobs.records.spec import Checkpoint


@dataclass(frozen=True, slots=True)
class Scoring:
    """What is known about scoring a run's prefills.

    missing: cells above level 0 without a log-probability. checkpoints: those of the missing cells that are on this
    machine. temperature: that of the scores there are, else of the sampling. why_not: why nothing is to be computed,
    or None.
    """

    missing: tuple[CellName, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    temperature: float = 1.0
    why_not: str | None = None

    @property
    def cells(self) -> frozenset[CellName]:
        """Cells that can be scored."""
        names = {checkpoint.name for checkpoint in self.checkpoints}
        return frozenset(cell for cell in self.missing if cell.checkpoint in names)


def check_run(run: RunLayout) -> None:
    """Raise InputError for a directory that holds no evaluated cell, or one whose cells are packed."""
    if not run.root.is_dir():
        raise InputError("no such run directory", path=run.root, fix="`foreshock ls` lists runs")
    for kind in TableKind:
        refuse_packed(run.root / kind.value)
    if not run.eval_files():
        raise InputError(
            "no evals/checkpoint-N_prefillL.jsonl here, so there is nothing to analyse",
            path=run.root,
            fix="name a run directory: it holds evals/",
        )


def scoring_of(
    run: RunLayout, logprobs: Sequence[CellName], checkpoint_dir: Path | None, temperature: float | None
) -> Scoring:
    """What is missing of a run's log-probabilities, and whether it can be computed here.

    `logprobs`: cells that have some. `checkpoint_dir`, `temperature`: as the user gave them, which config.yaml then
    need not say.
    """
    have = set(logprobs)
    missing = tuple(f.cell for f in run.eval_files() if f.cell.level > 0 and f.cell not in have)
    if not missing:
        return Scoring(())
    if have and (foreign := _other_scorer(run)):
        return Scoring(
            missing,
            why_not=f"{foreign} was written by another tool, whose scores ours must not stand beside; "
            "--rescore scores every cell anew",
        )
    settings, unread = _settings(run)
    own = _scored_at(run) if have else None
    sampling = settings.get("sampling") or {}
    asked = temperature if temperature is not None else sampling.get("temperature")
    if own is not None and temperature is not None and temperature != own:
        return Scoring(missing, why_not=f"the scores there were taken at temperature {own:g}, not {temperature:g}")
    chosen = own if own is not None else asked
    if chosen is None:
        return Scoring(missing, why_not=f"the sampling temperature is unknown ({unread}); give --temperature")
    found, why = _find_checkpoints(settings, unread, checkpoint_dir)
    names = {cell.checkpoint for cell in missing}
    at_hand = tuple(checkpoint for checkpoint in found if checkpoint.name in names)
    if not at_hand and why is None:
        why = f"none of {', '.join(sorted(names))} is among the checkpoints at hand"
    return Scoring(missing, at_hand, float(chosen) or 1.0, why)


def _settings(run: RunLayout) -> tuple[dict[str, Any], str]:
    """Sections of the run's configuration, or none and why."""
    try:
        return settings_from_sensitivity_run(run.root), "config.yaml does not say it"
    except InputError as error:
        return {}, str(error).partition("\n")[0]


def _find_checkpoints(
    settings: dict[str, Any], unread: str, given: Path | None
) -> tuple[tuple[Checkpoint, ...], str | None]:
    section = {k: v for k, v in (settings.get("checkpoints") or {}).items() if k != "steps"}
    if given is not None:
        section = {"dir": given / "checkpoints" if (given / "checkpoints").is_dir() else given}
    elif not section:
        return (), f"where the checkpoints are is unknown ({unread}); give --checkpoint-dir"
    try:
        return find_checkpoints(CheckpointsConfig.model_validate(section)).checkpoints, None
    except InputError as error:
        return (), str(error).partition("\n")[0]


def _first_rows(run: RunLayout) -> list[tuple[str, dict[str, Any]]]:
    return [(f.path.name, row) for f in run.logprob_files() for _, row in [next(read_jsonl(f.path), (0, {}))] if row]


def _other_scorer(run: RunLayout) -> str | None:
    """A file of scores that do not say how prompts became token ids, as ours do."""
    return next((name for name, row in _first_rows(run) if not row.get("template_sha256")), None)


def _scored_at(run: RunLayout) -> float | None:
    found = {row.get("logprob_temperature") for _, row in _first_rows(run)} - {None}
    return found.pop() if len(found) == 1 else None
