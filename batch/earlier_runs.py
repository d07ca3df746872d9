"""Runs that are there already: the newest one, and the settings of a sensitivity run of the tool that this replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import load_yaml, parse_config
from foreshock.errors import InputError
from foreshock.jobs.records.layout import ResultsLayout, RunLayout


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
    traces = old.get("prefill_source")
    sections: dict[str, Any] = {
        "checkpoints": {"dir": str(_located(run_dir, old["checkpoint_dir"])), "steps": old.get("checkpoints") or "all"},
        "prefill": {
            "levels": old["prefill_tokens_sweep"],
            "source": None if traces is None else str(_located(run_dir, traces)),
        },
        "sampling": {k: old[k] for k in ("attempts", "temperature", "max_tokens") if old.get(k) is not None},
        "problems": {
            ours: old[theirs] for ours, theirs in (("source", "dataset"), ("split", "split")) if old.get(theirs)
        },
    }
    source = sections["problems"].get("source")
    if source is not None and Path(source).is_file():
        sections["problems"]["source"] = str(Path(source).absolute())
    return sections


def _located(run_dir: Path, given: str) -> Path:
    """A path of the earlier tool is relative to where it was started: here, or the project that holds results/."""
    path = Path(given)
    above = run_dir.resolve().parents
    elsewhere = above[2] / path if len(above) > 2 else path
    return elsewhere if not path.exists() and elsewhere.exists() else path.absolute()


def config_from_sensitivity_run(run_dir: Path, overrides: dict[str, Any], file: Path | None = None) -> RunConfig:
    """A run configuration from an earlier run's settings, section by section overridden by what `file` holds."""
    sections = settings_from_sensitivity_run(run_dir)
    for name, value in overrides.items():
        old = sections.get(name)
        sections[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return parse_config(sections, file or run_dir / "config.yaml")
