"""Find what there is to evaluate: checkpoints in a folder, and earlier runs to take settings from.

A directory counts as a checkpoint by its name, and one that cannot be loaded is an error now rather than a failed GPU
job later.
"""

from __future__ import annotations

from pathlib import Path

from foreshock.batch.config import CheckpointsConfig, Steps
from foreshock.errors import InputError
from foreshock.jobs.spec import Checkpoint

_WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")


def list_checkpoints(folder: Path, run: str) -> list[Checkpoint]:
    """All checkpoints in a folder by step, `final` last. Raises InputError if there is none."""
    if not folder.is_dir():
        raise InputError(
            "no such checkpoint folder", path=folder, fix="set checkpoints.dir to the folder of checkpoint-N"
        )
    found = []
    for path in folder.iterdir():
        if path.is_dir() and (path.name == "final" or path.name.startswith("checkpoint-")):
            try:
                found.append(Checkpoint(run, Checkpoint.step_of(path.name), path))
            except ValueError:
                continue
    if not found:
        raise InputError(
            "no checkpoint-N or final directory in this folder",
            path=folder,
            fix="set checkpoints.dir to the folder that holds them",
        )
    return sorted(found)


def select_steps(checkpoints: list[Checkpoint], steps: Steps, folder: Path, key: str) -> list[Checkpoint]:
    """The checkpoints named by a configuration's `steps`. Raises InputError that lists those present."""
    if steps == "all":
        return checkpoints
    by_name = {"final" if c.step is None else c.step: c for c in checkpoints}
    missing = [step for step in steps if step not in by_name]
    if missing:
        raise InputError(
            f"{key}: no checkpoint for {', '.join(map(str, missing))}; present: {', '.join(map(str, by_name))}",
            path=folder,
        )
    return sorted({by_name[step] for step in steps})


def require_loadable(checkpoint: Checkpoint) -> None:
    """Raise InputError naming what a checkpoint directory lacks."""
    path = checkpoint.path
    names = {"config.json or adapter_config.json": ("config.json", "adapter_config.json"), "weights": _WEIGHT_PATTERNS}
    for what, patterns in names.items():
        if not any(True for pattern in patterns for _ in path.glob(pattern)):
            raise InputError(
                f"checkpoint has no {what} (looked for {', '.join(patterns)})",
                path=path,
                fix="wait until it is written, or leave it out with checkpoints.steps",
            )


def discover_checkpoints(config: CheckpointsConfig) -> list[Checkpoint]:
    """The checkpoints a run evaluates, each known to be loadable."""
    chosen = select_steps(list_checkpoints(config.dir, config.run_name), config.steps, config.dir, "checkpoints.steps")
    for checkpoint in chosen:
        require_loadable(checkpoint)
    return chosen
