"""Find what there is to evaluate: checkpoints in a folder, and earlier runs to take settings from.

A directory counts as a checkpoint by its name, and one that cannot be loaded is an error now rather than a failed GPU
job later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foreshock.batch.config import CheckpointsConfig, RunConfig, Steps, load_yaml, parse_config
from foreshock.errors import InputError
from foreshock.jobs.records.layout import ResultsLayout, RunLayout
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


def newest_run(results_dir: Path) -> RunLayout:
    """The newest run under `results_dir/prefill_sensitivity`. Raises InputError when there is none."""
    runs = ResultsLayout(results_dir).runs()
    if not runs:
        raise InputError(
            "no runs here",
            path=ResultsLayout(results_dir).sensitivity,
            fix="start one with `foreshock run CONFIG.yaml`, or name a run directory",
        )
    return runs[0]


_LEGACY_KEYS = ("checkpoint_dir", "checkpoints", "prefill_tokens_sweep")


def settings_from_sensitivity_run(run_dir: Path) -> dict[str, Any]:
    """Configuration sections taken from a run's `config.yaml`, ours or an earlier tool's.

    Reads `checkpoint_dir`, `checkpoints`, `prefill_tokens_sweep` and, where present, `prefill_source`, `dataset`,
    `split`, `attempts` and `temperature`; they may lie at the top or below `args`.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise InputError("no config.yaml in this run directory", path=run_dir, fix="name a prefill sensitivity run")
    data, _ = load_yaml(path)
    if isinstance(data, dict) and isinstance(data.get("config"), dict) and "command" in data:
        return parse_config(data["config"], path).to_yaml_dict()
    if not isinstance(data, dict):
        raise InputError("expected a mapping", path=path)
    old = {
        **data,
        **{k: v for key in ("args", "arguments") if isinstance(data.get(key), dict) for k, v in data[key].items()},
    }
    missing = [key for key in ("checkpoint_dir", "prefill_tokens_sweep") if old.get(key) is None]
    if missing:
        raise InputError(f"lacks {', '.join(missing)}; needed: {', '.join(_LEGACY_KEYS)}", path=path)
    sections: dict[str, Any] = {
        "checkpoints": {"dir": old["checkpoint_dir"], "steps": old.get("checkpoints") or "all"},
        "prefill": {"levels": old["prefill_tokens_sweep"], "source": old.get("prefill_source")},
        "sampling": {k: old[k] for k in ("attempts", "temperature", "max_tokens") if old.get(k) is not None},
        "problems": {
            ours: old[theirs] for ours, theirs in (("source", "dataset"), ("split", "split")) if old.get(theirs)
        },
    }
    return sections


def config_from_sensitivity_run(run_dir: Path, overrides: dict[str, Any]) -> RunConfig:
    """A run configuration from an earlier run's settings, section by section overridden."""
    sections = settings_from_sensitivity_run(run_dir)
    for name, value in overrides.items():
        old = sections.get(name)
        sections[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return parse_config(sections, run_dir / "config.yaml")
