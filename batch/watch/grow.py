"""The run that a watch fills: found again or begun, and one checkpoint larger at a time.

A watch has one run directory, found by the folder it watches, and its settings are those the run began with. A
restart with other settings is refused; it would put two experiments into one set of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foreshock.batch.config import AUTO, RunConfig
from foreshock.batch.config_file import load_config, load_yaml, parse_config
from foreshock.batch.planning.make_plan import grow_plan, make_plan
from foreshock.batch.running.run import create_run
from foreshock.batch.site import Site, with_engine
from foreshock.batch.watch.state import WatchState, state_file
from foreshock.errors import InputError
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.records.layout import ResultsLayout, RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import Checkpoint

_FREE = frozenset({"name", "results_dir", "execution", "analysis"})
"""Sections that may differ between restarts: they change where work runs and what is made of it, not a row."""


def watch_config(folder: Path, config: Path | None, stored: RunLayout | None, overrides: dict[str, Any]) -> RunConfig:
    """The settings of a watch over `folder`: of the file, else of the run begun earlier; `overrides` on top.

    Raises InputError for neither, for wrong settings, and for a file that contradicts the run.
    """
    if config is None and stored is None:
        raise InputError(
            "nothing says how to evaluate its checkpoints",
            path=folder,
            fix=f"foreshock watch {folder} --config CONFIG.yaml",
        )
    begun = None if stored is None else load_config(stored.config)
    if config is None:
        assert begun is not None
        data = begun.to_yaml_dict()
    else:
        raw, lines = load_yaml(config)
        raw = raw["config"] if isinstance(raw, dict) and isinstance(raw.get("config"), dict) else raw
        if isinstance(raw, dict):
            given = raw.get("checkpoints") if isinstance(raw.get("checkpoints"), dict) else {}
            raw = {**raw, "checkpoints": {**(given or {}), "dir": str(folder.absolute())}}
        data = parse_config(raw, config, lines).to_yaml_dict()
    for section, values in overrides.items():
        data[section] = {**data[section], **values}
    settings = parse_config(data, config)
    if begun is not None and settings.engine.name == AUTO:
        settings = settings.model_copy(
            update={"engine": settings.engine.model_copy(update={"name": begun.engine.name})}
        )  # a run goes on with the engine that it began with
    settings = with_engine(settings)
    if begun is not None and stored is not None:
        differs = _differences(begun.to_yaml_dict(), settings.to_yaml_dict())
        if differs:
            raise InputError(
                f"this run began with other settings ({', '.join(differs)}); its rows must not be mixed with new ones",
                path=stored.root,
                fix="leave --config out to go on with it, or begin another run with --run-dir DIR",
            )
    return settings


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    found = []
    for section in new:
        if section in _FREE or old.get(section) == new[section]:
            continue
        a, b = old.get(section), new[section]
        keys = [key for key in b if not isinstance(a, dict) or a.get(key) != b[key]] if isinstance(b, dict) else []
        found += [f"{section}.{key}" for key in keys] or [section]
    return found


def find_run(folder: Path, results_dir: Path) -> RunLayout | None:
    """The newest run directory under `results_dir` that a watch over `folder` made."""
    for layout in ResultsLayout(results_dir).runs():
        if state_file(layout).is_file() and WatchState.read(layout).checkpoint_dir == str(folder):
            return layout
    return None


def begin(
    config: RunConfig, site: Site, checkpoints: Sequence[Checkpoint], command: Sequence[str], run_dir: Path
) -> tuple[RunLayout, PlanFile, WatchState]:
    """Make the run directory from the first checkpoints."""
    plan = make_plan(config, checkpoints, image=site.image)
    layout, state = RunLayout(run_dir), WatchState(str(config.checkpoints.dir))
    state.write(layout)  # before the plan: a watch killed in between finds its directory again
    create_run(config, plan, command, run_dir)
    return layout, plan.file, state


def grow(layout: RunLayout, plan: PlanFile, config: RunConfig, checkpoint: Checkpoint) -> PlanFile:
    """Plan one more checkpoint and make that durable."""
    inputs = RunInputs.read(layout, plan.settings.assignment, plan.n_attempts)
    larger = grow_plan(config, plan, inputs, [checkpoint])
    larger.write(layout)
    return larger
