"""Admission of a run's checkpoints: each by its files, and all as one experiment: rendered and ended alike.

A checkpoint that lost its chat template, or was saved with another tokenizer, is another experiment; its rates would
read as learning. What may differ is named in the configuration and shown in plan and report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.specs import ModelFacts
from foreshock.errors import InputError
from foreshock.jobs.admission.admit import admit
from foreshock.jobs.admission.remembered import HERE, Remembered
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.prompts.tokenizer import load_tokenizer, tokenizer_digest
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.spec import Checkpoint

ADMISSION = "admission"
"""Key of the record in a plan's `extra`."""

Record = dict[str, Any]


def admit_checkpoints(
    config: RunConfig,
    settings: WorkerSettings,
    facts: Mapping[Checkpoint, ModelFacts],
    notes: Sequence[str] = (),
    remembered: Remembered = HERE,
) -> Record:
    """The record of a run's checkpoints: what was found of each, differences that are allowed, notes.

    Raises InputError for a checkpoint that is not admitted and for differences that are not allowed.
    """
    record: Record = {"checkpoints": {}, "differences": [], "notes": list(notes)}
    for checkpoint, own in facts.items():
        _add(record, config, settings, checkpoint, own, remembered)
    return record


def admit_further(
    config: RunConfig, plan: PlanFile, facts: Mapping[Checkpoint, ModelFacts], remembered: Remembered = HERE
) -> Record:
    """The plan's record with further checkpoints, held against those that are in it. Raises as `admit_checkpoints`."""
    record: Record = json.loads(json.dumps(plan.extra.get(ADMISSION) or admit_checkpoints(config, plan.settings, {})))
    for checkpoint, own in facts.items():
        _add(record, config, plan.settings, checkpoint, own, remembered)
    return record


def remembered_of(config: RunConfig) -> Remembered:
    """What plans of this results folder have found of checkpoints."""
    return Remembered(config.results_dir / ".admission")


def _add(
    record: Record,
    config: RunConfig,
    settings: WorkerSettings,
    checkpoint: Checkpoint,
    own: ModelFacts,
    remembered: Remembered,
) -> None:
    admission = admit(checkpoint, settings.engine, settings.engine_options, own.fingerprint, remembered)
    admission.require()
    sight = _sight(checkpoint, own, remembered)
    first = next(iter(record["checkpoints"].items()), None)
    if first is not None:
        name, other = first
        different = [key for key in other["rendering"] if other["rendering"][key] != sight[key]]
        refused = [key for key in different if key not in config.checkpoints.may_differ]
        if refused:
            shown = "; ".join(f"{key}: {_shown(other['rendering'][key])} and {_shown(sight[key])}" for key in refused)
            raise InputError(
                f"{checkpoint.name} is not rendered and ended as {name} is ({shown}): rates of two formats cannot be "
                "compared",
                path=checkpoint.tokenizer_path,
                fix="save every checkpoint with the same tokenizer files (tokenizer_config.json, chat_template.jinja, "
                "tokenizer.json), name them once with checkpoints.tokenizer, or allow it with "
                f"checkpoints.may_differ: [{', '.join(refused)}]",
            )
        record["differences"] += [
            {
                "checkpoint": checkpoint.name,
                "from": name,
                "what": key,
                "here": sight[key],
                "there": other["rendering"][key],
            }
            for key in different
        ]
    base = base_of(checkpoint.path) if is_adapter(checkpoint.path) else None
    for name, found in record["checkpoints"].items():
        other = found.get("base")
        if base is not None and other is not None and not _is_same_model(base, Path(other)):
            record["notes"].append(f"{checkpoint.name}: its base is {base}, that of {name} {other}: another model")
            break
    further = {} if base is None else {"base": str(base)}
    record["checkpoints"][checkpoint.name] = {**admission.to_json(), "rendering": sight, **further}
    record["notes"] += [f"{checkpoint.name}: {note}" for note in admission.notes]


def _is_same_model(one: Path, other: Path) -> bool:
    return one == other or (other.is_dir() and model_fingerprint(one) == model_fingerprint(other))


def note_donor(record: Record, donor: Checkpoint, remembered: Remembered = HERE) -> None:
    """Note in a run's record where the donor reads prompts and words in another way than its checkpoints."""
    first = next(iter(record["checkpoints"].values()), None)
    if first is None:
        return
    own, theirs = _tokenizer_sight(donor, remembered), first["rendering"]
    different = [key for key in own if own[key] != theirs[key]]
    note = (
        f"logprob.reference: another {' and '.join(different)} than the checkpoints': log Q is of the same words after "
        "the donor's own prompt, in its own tokens"
    )
    if different and note not in record["notes"]:
        record["notes"].append(note)


def _sight(checkpoint: Checkpoint, own: ModelFacts, remembered: Remembered) -> dict[str, Any]:
    """What must be equal over a run, by the names under which a difference can be allowed."""
    known = _tokenizer_sight(checkpoint, remembered)
    return {"format": [own.prompt_format, *own.markers], **known, "stops": list(own.stops)}


def _tokenizer_sight(checkpoint: Checkpoint, remembered: Remembered) -> dict[str, Any]:
    digest = tokenizer_digest(checkpoint.tokenizer_path)
    known: dict[str, Any] | None = remembered.find("tokenizer", digest)
    if known is None:
        tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        sight = {"template": _digest(tokenizer.chat_template), "tokenizer": _vocabulary_digest(tokenizer)}
        known = dict(remembered.keep(sight, "tokenizer", digest))
    return known


def _vocabulary_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _digest(sorted(tokenizer.get_vocab().items()))
    content = json.loads(backend.to_str())
    for volatile in ("padding", "truncation"):  # set by calls, not part of the tokenizer
        content.pop(volatile, None)
    return _digest(content)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _shown(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
