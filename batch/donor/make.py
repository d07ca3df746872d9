"""Make a donor: train in a folder beside the output, check what was saved by the engine's own scores, move it there.

The output appears whole or not at all. Until then `OUTPUT.training` holds what a further call of the same command goes
on from.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from foreshock.batch.donor.encoded import deterministic
from foreshock.batch.donor.loop import LoopHooks, train_donor, why_finished
from foreshock.batch.donor.model import load_trainable, save_donor, set_tensors
from foreshock.batch.donor.plan import DonorPlan
from foreshock.batch.donor.rate import RateMeter
from foreshock.batch.donor.settings import Method
from foreshock.batch.donor.state import StateFiles, TrainingState, rank
from foreshock.code_version import code_sha256, running_commit
from foreshock.durable import sync_directory
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.engines.weights import read_model_config
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.spec import Checkpoint
from foreshock.slurm.lock import LauncherLock

RECIPE = "recipe.json"
_SCHEMA_VERSION = 1


def working_folder(output: Path) -> Path:
    """Where a donor is trained until it is finished."""
    return output.with_name(f"{output.name}.training")


def finished_recipe(plan: DonorPlan) -> dict[str, Any] | None:
    """The recipe of the output, where it is there already and made from the same things; None if nothing is there.

    Raises InputError if something else is there.
    """
    if not plan.output.exists():
        return None
    if not (plan.output / RECIPE).is_file():
        raise InputError("the output is there already", path=plan.output, fix="give another --output, or remove it")
    recipe: dict[str, Any] = _checked_recipe(plan.output / RECIPE)
    _require_same(plan, recipe, plan.output)
    return recipe


def make_donor(plan: DonorPlan, hooks: LoopHooks, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Train, or go on with, the donor of a plan; returns its recipe.

    Raises InputError if the output, or the training in progress, is of something else; StopRequestedError on request;
    ForeshockError if training made no better model, or diverged.
    """
    done = finished_recipe(plan)
    folder = working_folder(plan.output)
    if done is not None:
        shutil.rmtree(folder, ignore_errors=True)  # what a kill just before the end left
        return done
    lock = LauncherLock(training_lock(plan.output))
    lock.acquire()
    try:
        recipe = _made(plan, folder, hooks, say)
    finally:
        lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    return recipe


def begin(plan: DonorPlan) -> None:
    """Note in the working folder what is trained there, before or when training begins; a job that starts days later
    then trains what was submitted, or nothing. Raises InputError if something else has been trained there so far."""
    begun = working_folder(plan.output) / "begun.json"
    if begun.is_file() and StateFiles(begun.parent).began:
        _require_same(plan, _checked_recipe(begun), begun.parent)
    else:
        begun.parent.mkdir(parents=True, exist_ok=True)
        write_json(begun, {"recipe_sha256": plan.sha256(), **plan.identity()})


def training_lock(output: Path) -> Path:
    """Held while a process trains."""
    return working_folder(output) / "training.lock"


def _made(plan: DonorPlan, folder: Path, hooks: LoopHooks, say: Callable[[str], None]) -> dict[str, Any]:
    files = StateFiles(folder)
    if (folder / "begun.json").is_file():
        _require_same(plan, _checked_recipe(folder / "begun.json"), folder)
    else:
        begin(plan)
    state = files.read() or TrainingState()
    if state.step:
        say(f"going on after step {state.step}")
    versions = _versions(plan.settings.method)
    if not state.sessions or state.sessions[-1] != versions:
        state.sessions.append(versions)
    started = time.monotonic()
    checkpoint = folder / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)  # of a kill while it was written
    with _meter(plan, hooks.stop) as meter:
        _trained(plan, files, state, hooks, checkpoint, meter)
        measured = _as_sampled(plan, checkpoint, meter)
    first, best = state.history[0], state.best
    if rank(measured) >= rank(first):
        raise ForeshockError(
            f"the checkpoint as saved is no better than the target in the engine ({_said(measured)}; the target: "
            f"{_said(first)}): what was learnt was lost in its type\n"
            "  -> train longer or faster (--learning-rate), or give engine.dtype=float32, and another --output"
        )
    by_who = {"target": first, "donor": best, "donor_as_sampled": measured}
    recipe = {
        "schema_version": _SCHEMA_VERSION,
        "recipe_sha256": plan.sha256(),
        **plan.identity(),
        "threads": plan.threads,
        "history": state.history,
        "best_step": best["step"],
        "stopped_by": why_finished(state.history, plan.settings),
        "held_out_loss": {who: entry["held_out_loss"] for who, entry in by_who.items()},
        "exploit_rate": None if meter is None else {who: entry["exploit_rate"] for who, entry in by_who.items()},
        "fingerprint": model_fingerprint(checkpoint),
        "sessions": state.sessions,
        "seconds_of_last_session": round(time.monotonic() - started, 1),
    }
    write_json(checkpoint / RECIPE, recipe)
    _sync(checkpoint)
    checkpoint.rename(plan.output)
    sync_directory(plan.output.parent)
    return recipe


def _meter(plan: DonorPlan, stop: Callable[[], bool]) -> AbstractContextManager[RateMeter | None]:
    if plan.draws is None:
        return nullcontext()
    engine = TransformersEngine(plan.device, plan.dtype, batch_size=len(plan.draws.pairs))
    return RateMeter(plan.draws, plan.target, engine, stop)


def _said(entry: Mapping[str, Any]) -> str:
    rate = f"{entry['exploits']} of {entry['samples']} answers exploit, " if "exploit_rate" in entry else ""
    return f"{rate}held-out loss {entry['held_out_loss']:.4f}"


def _trained(
    plan: DonorPlan,
    files: StateFiles,
    state: TrainingState,
    hooks: LoopHooks,
    checkpoint: Path,
    meter: RateMeter | None,
) -> None:
    """Train to the end and save the best parameters as a checkpoint."""
    engine = TransformersEngine(plan.device, plan.dtype)
    dtype = _dtype(plan, engine)
    threads = plan.threads if plan.threads is not None else torch.get_num_threads()
    split = plan.split
    model = load_trainable(plan.target, plan.settings, engine.device, dtype)
    train, held_out = ([example.encoded for example in part] for part in (split.train, split.held_out))
    rate = None if meter is None else meter.of_model
    with deterministic(threads) if engine.device.type == "cpu" else nullcontext():
        train_donor(model, train, held_out, plan.settings, files, state, hooks, rate)
    best = state.best
    if not best["step"]:
        raise ForeshockError(
            f"no evaluation is better than the target's own ({_said(best)}; then "
            f"{'; '.join(_said(entry) for entry in state.history[1:])}), so there is no donor to save\n"
            "  -> give another --learning-rate or more problems, and another --output"
        )
    set_tensors(model, files.read_best(best["step"]))
    save_donor(model, plan.target, plan.settings.method, checkpoint)
    del model
    gc.collect()
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()


def _dtype(plan: DonorPlan, engine: TransformersEngine) -> torch.dtype:
    """The type that the engine would load the target in."""
    return engine.dtype_of(read_model_config(plan.target.path))


def _as_sampled(plan: DonorPlan, checkpoint: Path, meter: RateMeter | None) -> dict[str, Any]:
    """An evaluation of the saved checkpoint, as the engine loads, scores and samples it."""
    saved = Checkpoint("donor", None, checkpoint)
    counted: dict[str, Any] = {} if meter is None else meter.of_checkpoint(saved).to_json()
    return {"held_out_loss": _loss_as_sampled(plan, saved), **counted}


def _loss_as_sampled(plan: DonorPlan, saved: Checkpoint) -> float:
    """Mean loss per held-out answer token, in nats."""
    items = [example.encoded for example in plan.split.held_out]
    requests = [ScoreRequest(i, item.ids, item.start) for i, item in enumerate(items)]
    with TransformersEngine(plan.device, plan.dtype, batch_size=plan.settings.micro_batch) as engine:
        engine.load(saved)
        results = list(engine.score(requests, 1.0))
    failed = [result.error for result in results if result.error is not None]
    if failed:
        raise ForeshockError(f"{saved.path}: the saved donor could not be scored: {failed[0]}")
    logprobs = [value for result in results for value in result.logprobs]
    return -sum(logprobs) / len(logprobs)


def _checked_recipe(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("recipe_sha256"), str):
        raise InputError("not a donor's recipe: recipe_sha256 is missing", path=path, fix="give another --output")
    return data


def _require_same(plan: DonorPlan, recipe: dict[str, Any], folder: Path) -> None:
    if recipe["recipe_sha256"] == plan.sha256():
        return
    mine = plan.identity()
    names = {("target", "fingerprint"): "the model under test", ("data", "sha256"): "problems, prompt or split"}
    names |= {("settings", key): f"--{key.replace('_', '-')}" for key in mine["settings"]}
    names |= {("draws", key): f"the {key} of sampled answers" for key in mine["draws"] or ()}
    differs = [name for (section, key), name in names.items() if _held(recipe, section, key) != mine[section][key]]
    differs += [f"engine.{key}" for key in ("device", "dtype") if recipe.get(key) != mine[key]]
    raise InputError(
        f"holds a donor made from something else; what differs: {', '.join(differs) or 'engine.threads'}",
        path=folder,
        fix="give another --output, or remove it to train anew",
    )


def _held(recipe: dict[str, Any], section: str, key: str) -> Any:
    held = recipe.get(section)
    return held.get(key) if isinstance(held, dict) else None


def _sync(folder: Path) -> None:
    """Make what libraries wrote last, before the rename that says it is whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _versions(method: Method) -> dict[str, str]:
    names = ("foreshock", "torch", "transformers", *(("peft",) if method is Method.LORA else ()))
    found = {name: importlib.metadata.version(name) for name in names}
    commit = running_commit()
    return {**found, "python": platform.python_version(), "code_sha256": code_sha256()} | (
        {"commit": commit} if commit else {}
    )
