"""Admission of one checkpoint by its files: tokenizer, adapter, ties, rotary frequencies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.admission.adapter_fit import adapter_problem
from foreshock.jobs.admission.file_notes import (
    ends_without_a_row,
    generation_rules,
    odd_template,
    template_without_tokenizer,
    tokens_without_a_row,
    two_templates,
)
from foreshock.jobs.admission.remembered import HERE, Remembered
from foreshock.jobs.admission.tekken import tekken_differs
from foreshock.jobs.admission.tokenizer_test import reference_file, tokenizer_problem
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.rope import rope_switch, unknown_rope
from foreshock.jobs.model_files.adapters import Adapter, AdapterError, is_adapter, read_adapter
from foreshock.jobs.model_files.fingerprint import check_weights, model_fingerprint, read_config, stated_vocab_size
from foreshock.jobs.model_files.quantisation import FIX, quantisation_problem, states_weights
from foreshock.jobs.model_files.safetensors_headers import is_zero, stored_tensors
from foreshock.jobs.model_files.stored_layers import layer_problem, shape_problem
from foreshock.jobs.model_files.ties import read_ties
from foreshock.jobs.model_files.transformers_config import other_task, transformers_config
from foreshock.jobs.prompts.stops import model_ends
from foreshock.jobs.prompts.template_arguments import draws_at_random
from foreshock.jobs.prompts.tokenizer import load_tokenizer, template_sources, tokenizer_digest
from foreshock.jobs.records.spec import Checkpoint


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state`: ok, note (worth knowing) or refused; `fix`: what to do about a refusal."""

    state: str
    what: str
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the files of one checkpoint showed."""

    checkpoint: Checkpoint
    fingerprint: str
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """What speaks against it; empty if it is admitted."""
        return tuple(finding for finding in self.findings if finding.state == "refused")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing, in words."""
        return tuple(f"{f.what}: {f.found}" for f in self.findings if f.state == "note")

    def require(self) -> None:
        """Raise InputError with every reason for which the checkpoint is refused."""
        if self.refused:
            reasons = "; ".join(f"{finding.what}: {finding.found}" for finding in self.refused)
            fixes = " ".join(dict.fromkeys(finding.fix for finding in self.refused if finding.fix))
            raise InputError(f"not admitted: {reasons}", path=self.checkpoint.path, fix=fixes or None)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the run's record."""
        return {
            "path": str(self.checkpoint.path),
            "tokenizer": str(self.checkpoint.tokenizer_path),
            "fingerprint": self.fingerprint,
            "findings": [asdict(finding) for finding in self.findings],
        }


def admit(
    checkpoint: Checkpoint,
    engine: str,
    options: Mapping[str, Any],
    fingerprint: str | None = None,
    remembered: Remembered = HERE,
) -> Admission:
    """Look at a checkpoint's files, for the engine that will serve it. Refusals are findings, not errors.

    Raises InputError for a directory that is not a checkpoint at all. What was found is remembered by fingerprint.
    """
    print_ = fingerprint or model_fingerprint(checkpoint.path)
    folder = checkpoint.tokenizer_path
    where = "its own" if folder == checkpoint.path else str(folder)
    depends = (print_, where, tokenizer_digest(folder), engine, json.dumps(dict(options), sort_keys=True, default=repr))
    found = remembered.find("admission", *depends)
    if found is None:
        looked = [asdict(finding) for finding in _look(checkpoint, engine, options)]
        found = remembered.keep(looked, "admission", *depends)
    return Admission(checkpoint, print_, tuple(Finding(**finding) for finding in found))


def _look(checkpoint: Checkpoint, engine: str, options: Mapping[str, Any]) -> Iterator[Finding]:
    yield _tokenizer(checkpoint)
    yield from _template(checkpoint)
    full = checkpoint.path
    if is_adapter(checkpoint.path):
        adapter = _read(checkpoint.path)
        if isinstance(adapter, Finding):
            yield adapter
            return
        yield _adapter(adapter, engine)
        full = adapter.base
    yield from _rows(checkpoint, full)
    yield from _ties(full)
    yield _rope(full)
    for said in (generation_rules(full), ends_without_a_row(full, model_ends(checkpoint.path))):
        if said is not None:
            yield Finding("note", "generation_config.json", said)
    require_model = ENGINES.get(engine).require_model
    if require_model is not None:
        try:
            require_model(full, options)
        except InputError as error:
            reason, _, fix = str(error).removeprefix(f"{full}: ").partition("\n  -> ")
            yield Finding("refused", f"engine {engine}", reason, fix)


def _tokenizer(checkpoint: Checkpoint) -> Finding:
    folder = checkpoint.tokenizer_path
    tokenizer = load_tokenizer(folder)
    problem = tokenizer_problem(tokenizer, folder)
    if problem is not None:
        return Finding("refused", "tokenizer", problem, _tokenizer_fix(folder, problem))
    where = "" if folder == checkpoint.path else f" of {folder}"
    file = reference_file(folder)
    if file is None:
        found = f"{type(tokenizer).__name__}{where}: no tokenizer.json to hold it against; texts come back whole"
        return Finding("note", "tokenizer", found)
    return Finding(
        "ok" if not where else "note", "tokenizer", f"{type(tokenizer).__name__}{where} reads and writes as {file}"
    )


def _tokenizer_fix(folder: Path, problem: str) -> str:
    """Which of two readings is right only the trainer knows; either can be made the only one. transformers lets
    config.json choose the class of some architectures whatever tokenizer_config.json names."""
    if not (folder / "tokenizer.json").is_file():
        return "save the tokenizer that the model was trained with: it writes tokenizer.json"
    if not problem.startswith("the class "):
        return "save the tokenizer where the model was trained (save_pretrained), or correct the file that is wrong"
    return (
        f"if the model was trained with tokenizer.json as it is: copy {folder}/*token*.json and chat_template.jinja "
        'into a folder without config.json, set "tokenizer_class": "TokenizersBackend" in its tokenizer_config.json, '
        "and name that folder as checkpoints.tokenizer; if it was trained with that class, name one that "
        f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained(FOLDER) writes"
    )


def require_prompts(checkpoint: Checkpoint) -> None:
    """Raise InputError where the files from which prompts are made are refused; weights are not looked at."""
    Admission(checkpoint, "", (_tokenizer(checkpoint), *_template(checkpoint))).require()


def _template(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Chat templates that are there and are not the one that is used."""
    found = two_templates(checkpoint.tokenizer_path)
    if found is not None:
        yield Finding("note", "chat template", found)
    tokenizer = load_tokenizer(checkpoint.tokenizer_path)
    if draws_at_random(template_sources(tokenizer)):
        reason = "it draws at random, so the same conversation is another prompt each time"
        yield Finding("refused", "chat template", reason, "save a template that always writes the same")
    differs = tekken_differs(checkpoint.tokenizer_path, tokenizer)
    if differs is not None:
        yield Finding("note", "tokenizer", differs)
    for odd in odd_template(tokenizer):
        yield Finding("note", "chat template", odd)
    unused = template_without_tokenizer(checkpoint.path, checkpoint.tokenizer_path)
    if unused is not None:
        yield Finding(
            "refused",
            "chat template",
            f"{unused} lies beside the weights, but the tokenizer is that of {checkpoint.tokenizer_path}, whose own "
            "template is another and would be used",
            "copy tokenizer.json and tokenizer_config.json beside it, or move it away",
        )


def _rows(checkpoint: Checkpoint, full: Path) -> Iterator[Finding]:
    """Tokens that the model has no embedding of: harmless until a prompt holds one."""
    beyond = tokens_without_a_row(load_tokenizer(checkpoint.tokenizer_path), full)
    if beyond is None:
        return
    found, written = beyond
    if written:
        fix = "use the tokenizer that the model was trained with, or save the model with its resized embeddings"
        yield Finding("refused", "vocabulary", f"{found}, and the chat template writes them", fix)
    else:
        yield Finding("note", "vocabulary", found)


def _read(path: Path) -> Adapter | Finding:
    try:
        return read_adapter(path)
    except InputError as error:
        reason, _, fix = str(error).partition("\n  -> ")
        return Finding("refused", "adapter", reason, fix)


def _adapter(adapter: Adapter, engine: str) -> Finding:
    if ENGINES.get(engine).folds_adapters and states_weights(read_config(adapter.base / "config.json"), adapter.base):
        return Finding(
            "refused",
            "adapter",
            f"its base {adapter.base} is quantised, so engine {engine} can add nothing to the stored weights",
            "name the base in bfloat16 in base_model_name_or_path, or use engine vllm, which serves it unmerged",
        )
    try:
        problem = adapter_problem(adapter)
    except AdapterError as error:
        problem = str(error).removeprefix(f"{adapter.path}/")
    if problem is not None:
        return Finding(
            "refused", "adapter", problem, "name the base that it was trained on, or merge it where it was trained"
        )
    ranks = "ranks by module" if adapter.rank_pattern else f"rank {adapter.rank}"
    return Finding("ok", "adapter", f"LoRA, {ranks}, scale {adapter.scale(''):.4g}, over {adapter.base}")


def _ties(path: Path) -> Iterator[Finding]:
    try:
        files, config = check_weights(path), read_config(path / "config.json")
        ties = read_ties(path, files, config)
        stored = stored_tensors(files)
        layers, quantised = layer_problem(config, stored), quantisation_problem(config, stored, path)
        rows = None if states_weights(config, path) else stated_vocab_size(path)  # quantised ones may be packed
        shapes = shape_problem(stored, ties.embedding, rows)
        empty = [name for name in (ties.embedding, ties.output) if name is not None and is_zero(stored[name])]
    except (OSError, ValueError, KeyError) as error:
        yield Finding("refused", "weights", " ".join(str(error).split()))
        return
    if shapes is not None:
        yield Finding("refused", "weights", shapes, "save config.json and the whole weights of one model together")
    if layers is not None:
        yield Finding("refused", "layers", layers, "save config.json and weights of one model together")
    if quantised is not None:
        yield Finding("refused", "quantisation", quantised, FIX)
    if empty:
        reason = f"{' and '.join(empty)} hold{'' if len(empty) > 1 else 's'} only zeros, so all tokens are alike to it"
        fix = "save the checkpoint again; sharded trainers must gather the weights before they save"
        yield Finding("refused", "weights", reason, fix)
    problem, contradiction = ties.problem(), ties.contradiction()
    if problem is not None:
        yield Finding("refused", "output layer", problem, "save the model with its output layer, or correct the flag")
    elif contradiction is not None:
        yield Finding("note", "output layer", contradiction)
    else:
        yield Finding("ok", "output layer", "tied to the embeddings" if ties.tied else "its own")


def _rope(path: Path) -> Finding:
    try:
        config = transformers_config(path).get_text_config()
        switch, unknown = rope_switch(config), unknown_rope(config)
    except (OSError, ValueError, KeyError) as error:
        reason = f"transformers cannot read it: {' '.join(str(error).split())[:300]}"
        if "auto_map" in read_config(path / "config.json"):
            reason = (
                "its model is code of its own (auto_map), which transformers does not hold and foreshock does not run"
            )
        return Finding("refused", "config.json", reason, "serve it, and use engine openai")
    other = other_task(read_config(path / "config.json"))
    if other is not None:
        reason = f"architectures names {other}, which predicts no tokens: it is not a language model"
        return Finding("refused", "config.json", reason, "give the model that it judges, or correct config.json")
    if unknown is not None:
        reason = f"rope_type {unknown!r} is not known to this transformers, so no model can be made of it"
        return Finding("refused", "positions", reason, "update transformers, or correct config.json")
    if switch is None:
        return Finding("ok", "positions", "rotary frequencies do not change with length")
    return Finding("note", "positions", f"{switch.kind} frequencies beyond {switch.at} tokens; such rows batch apart")
