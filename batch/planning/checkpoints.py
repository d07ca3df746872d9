"""Find what there is to evaluate: checkpoints in a folder, of any trainer, or of a repository on the hub.

A directory counts as a checkpoint by its name, one that cannot be loaded is an error now rather than a failed GPU job
later, and one that only looks like a checkpoint is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.config_inputs import CheckpointsConfig
from foreshock.batch.config_values import Steps
from foreshock.errors import InputError
from foreshock.jobs.model_files.fingerprint import find_tokenizer
from foreshock.jobs.model_files.hub_checkpoints import cached_revisions
from foreshock.jobs.model_files.model_folder import (
    WEIGHT_PATTERNS,
    holds_model,
    model_folder,
    rival_folders,
    sharded_format,
)
from foreshock.jobs.records.checkpoint_names import (
    DEFAULT_RULES,
    FINAL,
    looks_like_a_step,
    some_of,
    sort_names,
    step_of_directory,
    valid_names,
)
from foreshock.jobs.records.spec import Checkpoint


class NoCheckpointYetError(InputError):
    """A folder that holds nothing that looks like a checkpoint; training may write one yet."""


@dataclass(frozen=True)
class Found:
    """Checkpoints by step, `final` last, and in words what was passed over."""

    checkpoints: tuple[Checkpoint, ...]
    notes: tuple[str, ...] = ()


def find_checkpoints(config: CheckpointsConfig) -> Found:
    """Everything that the configuration's folder or repository holds, loadable or not.

    Raises NoCheckpointYetError if there is nothing, InputError if there is something that is not understood.
    """
    if config.repo is not None:
        return _in_repository(config)
    folder = config.dir
    if not folder.is_dir():
        raise InputError(
            "no such checkpoint folder", path=folder, fix="set checkpoints.dir to the folder of checkpoint-N"
        )
    return _in_folder(config, folder)


def _in_folder(config: CheckpointsConfig, folder: Path) -> Found:
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    named = sort_names(names, config.pattern, folder, DEFAULT_RULES)
    if not named.steps and holds_model(model_folder(folder)):
        return Found((_checkpoint(config, _own_step(folder), folder, folder.parent),))
    unmatched = [*named.unmatched, *_further_models(folder, names, {*named.steps.values(), *named.unmatched})]
    if not named.steps:
        raise _nothing(config, folder, unmatched)
    checkpoints = [_checkpoint(config, step, folder / name, folder) for step, name in named.steps.items()]
    notes = []
    if unmatched:
        notes.append(
            f"{folder}: not taken for checkpoints ({named.rule}): {some_of(unmatched)}; "
            "checkpoints.pattern says otherwise"
        )
    gone = sorted(e.name for e in folder.iterdir() if looks_like_a_step(e.name) and e.is_symlink() and not e.exists())
    if gone:
        notes.append(f"{folder}: links to directories that are not there: {some_of(gone)}")
    if holds_model(folder):
        notes.append(f"{folder}: holds a model itself, which is not evaluated: only the steps in it are")
    return Found(tuple(sorted(checkpoints)), tuple(notes))


def _own_step(folder: Path) -> int | None:
    """The step of a directory that is a model itself: by its name, else it is `final`."""
    try:
        return step_of_directory(folder.name)
    except ValueError:
        return None


def _further_models(folder: Path, names: list[str], known: set[str]) -> list[str]:
    """Directories whose names say nothing but that hold a model or training state."""
    rest = sorted(set(names) - known)
    return [name for name in rest if holds_model(folder / name) or sharded_format(folder / name) is not None]


def _nothing(config: CheckpointsConfig, folder: Path, unmatched: list[str]) -> InputError:
    sharded = sharded_format(folder)
    if sharded is not None:
        return sharded.error()
    valid = f"checkpoints.pattern {config.pattern!r}" if config.pattern else valid_names()
    for name in unmatched:
        sharded = sharded_format(folder / name)
        if sharded is not None:
            return sharded.error()
    if unmatched:
        example = r"(?P<step>\d+)" if unmatched[0].isdecimal() else r"run7-(?P<step>\d+)"
        return InputError(
            f"no directory here is named like a checkpoint ({valid}), but these look like some: {some_of(unmatched)}",
            path=folder,
            fix=f"say how they are named with checkpoints.pattern, for example: '{example}'",
        )
    inner = _steps_further_down(folder)
    if inner:
        return InputError(
            f"no directory here is named like a checkpoint ({valid}), but there are some in {some_of(inner)}",
            path=folder,
            fix=f"set checkpoints.dir to the folder that holds them, for example {folder / inner[0]}",
        )
    return NoCheckpointYetError(
        f"no checkpoint-N or {FINAL} directory in this folder, nor any other name of a step ({valid})",
        path=folder,
        fix="set checkpoints.dir to the folder that holds them",
    )


def _steps_further_down(folder: Path) -> list[str]:
    """Directories in the folder that hold models named like steps, as runs below a sweep's folder do."""
    found = []
    for child in folder.iterdir():
        try:
            named = [entry for entry in child.iterdir() if looks_like_a_step(entry.name)] if child.is_dir() else []
        except OSError:
            continue  # another's folder, which cannot be read
        if any(holds_model(model_folder(entry)) for entry in named):
            found.append(child.name)
    return sorted(found)


def _checkpoint(config: CheckpointsConfig, step: int | None, root: Path, folder: Path) -> Checkpoint:
    """A step's checkpoint: the folder its model lies in, and that of its tokenizer where it is another."""
    path = model_folder(root)
    tokenizer = config.tokenizer or find_tokenizer(path, folder)
    return Checkpoint(config.run_name, step, path, tokenizer=None if tokenizer == path else tokenizer)


def _in_repository(config: CheckpointsConfig) -> Found:
    """Checkpoints of a repository that is in the Hugging Face cache: revisions, else subfolders of one."""
    assert config.repo is not None
    found = cached_revisions(config.repo, config.pattern)
    if found.steps:
        checkpoints = []
        for step, (revision, snapshot) in found.steps.items():
            path = model_folder(snapshot)
            tokenizer = config.tokenizer or find_tokenizer(path, snapshot)
            own = None if tokenizer == path else tokenizer
            checkpoints.append(Checkpoint(config.run_name, step, path, revision, own))
        notes = (
            (f"{config.repo}: revisions not taken for checkpoints: {some_of(found.others)}",) if found.others else ()
        )
        return Found(tuple(sorted(checkpoints)), notes)
    return _in_folder(config, found.snapshot)


def list_checkpoints(folder: Path, run: str) -> list[Checkpoint]:
    """All checkpoints in a folder by step, `final` last. Raises InputError if there is none."""
    return list(find_checkpoints(CheckpointsConfig(dir=folder, run=run)).checkpoints)


def select_steps(checkpoints: list[Checkpoint], steps: Steps, folder: Path, key: str) -> list[Checkpoint]:
    """The checkpoints named by a configuration's `steps`. Raises InputError that lists those present."""
    if steps == "all":
        return checkpoints
    by_name = {FINAL if c.step is None else c.step: c for c in checkpoints}
    missing = [step for step in steps if step not in by_name]
    if missing:
        raise InputError(
            f"{key}: no checkpoint for {', '.join(map(str, missing))}; present: {', '.join(map(str, by_name))}",
            path=folder,
        )
    return sorted({by_name[step] for step in steps})


def is_selected(checkpoint: Checkpoint, steps: Steps) -> bool:
    """Whether a configuration's `steps` names the checkpoint."""
    return steps == "all" or (FINAL if checkpoint.step is None else checkpoint.step) in steps


def require_loadable(checkpoint: Checkpoint) -> None:
    """Raise InputError naming what a checkpoint directory lacks, or the training format that it holds instead."""
    path = checkpoint.path
    for root in (path, *path.parents[:3]):
        rivals = rival_folders(root)
        if any(path == rival or rival in path.parents for rival in rivals):
            held = ", ".join(str(rival.relative_to(root)) for rival in rivals)
            raise InputError(
                f"holds {len(rivals)} models ({held}), so which is the checkpoint's is not said",
                path=root,
                fix="move the others away",
            )
    names = {"config.json or adapter_config.json": ("config.json", "adapter_config.json"), "weights": WEIGHT_PATTERNS}
    for what, patterns in names.items():
        if not any(True for pattern in patterns for _ in path.glob(pattern)):
            sharded = sharded_format(path)
            if sharded is not None:
                raise sharded.error()
            raise InputError(
                f"checkpoint has no {what} (looked for {', '.join(patterns)})",
                path=path,
                fix="wait until it is written, or leave it out with checkpoints.steps",
            )
    if not checkpoint.tokenizer_path.is_dir():
        raise InputError("checkpoints.tokenizer: no such directory", path=checkpoint.tokenizer_path)


def discover_checkpoints(config: CheckpointsConfig) -> list[Checkpoint]:
    """The checkpoints a run evaluates, each known to be loadable."""
    found = find_checkpoints(config)
    chosen = select_steps(list(found.checkpoints), config.steps, config.dir, "checkpoints.steps")
    for checkpoint in chosen:
        require_loadable(checkpoint)
    return chosen


def one_checkpoint(folder: Path, run: str | None = None) -> Checkpoint:
    """The checkpoint in one directory of any trainer's; its step as its name says, `final` where it says none.

    Raises InputError if there is no model in it.
    """
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise InputError("no such checkpoint directory", path=path)
    found = model_folder(path)
    tokenizer = find_tokenizer(found, path.parent)
    name = run or (path.parent.name if looks_like_a_step(path.name) or path.name == FINAL else path.name)
    checkpoint = Checkpoint(name, _own_step(path), found, tokenizer=None if tokenizer == found else tokenizer)
    require_loadable(checkpoint)
    return checkpoint
