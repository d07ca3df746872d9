"""The plan on disk: what a run computes (`plan.json`) and how it is packed (`packs/`).

Specs and packing are separate files. A spec never changes in a run's life, so shards stay valid; specs are only ever
added (a watched run's new checkpoints, adaptive rounds), after those that are there. Every submission writes a new
pack of whatever is missing then; older packs keep their meaning for jobs still running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from foreshock.durable import create_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planspecs import decode_specs, encode_specs
from foreshock.jobs.records.spec import ArrayTask, JobSpec

EXPLOIT_CODE = "exploit_code"
"""Key of a plan's `extra`: how many tokens of each exploit code make its truncated score."""


_PLANNED = "give a run directory that foreshock planned; `foreshock ls` lists them"


@dataclass(frozen=True, slots=True)
class SkippedTasks:
    """Tasks left out of one cell, and why."""

    checkpoint: str
    level: int
    n_tasks: int
    reason: str


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker computes rows. Engine and verifier options are theirs to read; identity lies in the specs."""

    engine: str
    engine_options: dict[str, Any]
    verifier: str
    verifier_options: dict[str, Any]
    prompt_format: str
    system: str | None
    instructions: str
    assignment: str
    token_logprobs: bool
    git_commit: str | None
    image_digest: str | None
    reuse_verdicts: bool = True
    template_args: dict[str, Any] = field(default_factory=dict)
    opening: str | None = None
    closing: str | None = None
    stop_token_ids: tuple[int, ...] = ()
    whole_trace: bool = False
    code_sha256: str | None = None
    image_content: str | None = None
    strict: bool = False
    """Whether a worker that is not what was planned (commit, source files, image) computes nothing."""
    bundle_from: int = 2000
    """Specs of a plan from which sealed shards are joined into bundles, and cells from which tables are."""
    rendering: dict[str, Any] = field(default_factory=dict)
    """What was resolved when the run was planned: format, markers and where they were found, stops."""


@dataclass(frozen=True)
class PlanFile:
    """Everything a run computes."""

    specs: tuple[JobSpec, ...]
    settings: WorkerSettings
    skipped: tuple[SkippedTasks, ...] = ()
    n_attempts: int = 1
    n_rollouts: int = 1
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def bundled(self) -> bool:
        """Whether there are so many shards that those that are sealed are joined into bundles."""
        return len(self.specs) >= self.settings.bundle_from

    @cached_property
    def tables_archived(self) -> bool:
        """Whether there are so many cells that their tables are written into archives."""
        cells = {(spec.checkpoint.name, level) for spec in self.specs for level in spec.levels}
        return len(cells) >= self.settings.bundle_from

    @cached_property
    def by_key(self) -> Mapping[str, JobSpec]:
        """Specs by `JobSpec.key()`."""
        return {spec.key(): spec for spec in self.specs}

    def with_specs(self, specs: Sequence[JobSpec]) -> PlanFile:
        """The plan with `specs` after its own; those that it has already are not repeated."""
        return replace(self, specs=tuple({spec.key(): spec for spec in (*self.specs, *specs)}.values()))

    def write(self, layout: RunLayout) -> None:
        """Write `plan.json`."""
        write_json(
            layout.plan,
            {
                "settings": asdict(self.settings),
                "n_attempts": self.n_attempts,
                "n_rollouts": self.n_rollouts,
                "skipped": [asdict(item) for item in self.skipped],
                "extra": self.extra,
            }
            | encode_specs(self.specs),
        )

    @classmethod
    def read(cls, layout: RunLayout) -> PlanFile:
        """Raises InputError if the run has no readable plan."""
        if not layout.plan.is_file():
            raise InputError(_no_plan(layout), path=layout.root, fix=_PLANNED)
        data = read_json(layout.plan)
        try:
            return cls(
                specs=decode_specs(data),
                settings=_settings(data["settings"]),
                skipped=tuple(SkippedTasks(**item) for item in data["skipped"]),
                n_attempts=data["n_attempts"],
                n_rollouts=data["n_rollouts"],
                extra=data["extra"],
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"not a foreshock plan: {error!r}", path=layout.plan, fix=_PLANNED) from None


def _no_plan(layout: RunLayout) -> str:
    if not layout.root.exists():
        return "no such run directory"
    if not layout.root.is_dir():
        return "is a file; a run is a directory"
    if layout.evals.is_dir():
        return "this run has no plan.json: it was imported, or is not whole, so its model and prompts are not known"
    return "this run has no plan.json"


def _settings(data: dict[str, Any]) -> WorkerSettings:
    return WorkerSettings(**data | {"stop_token_ids": tuple(data.get("stop_token_ids", ()))})


def _pack_file(layout: RunLayout, number: int) -> Path:
    return layout.root / "packs" / f"pack-{number:04d}.json"


def pack_numbers(layout: RunLayout) -> list[int]:
    """Numbers of the packs written so far, ascending."""
    return sorted(int(path.stem.split("-")[1]) for path in (layout.root / "packs").glob("pack-*.json"))


def write_pack(layout: RunLayout, tasks: Sequence[ArrayTask]) -> int:
    """Write the next pack; returns its number, which no other writer has."""
    text = json.dumps(
        {
            "tasks": [
                {
                    "index": task.index,
                    "estimated_minutes": task.estimated_minutes,
                    "checkpoints": sorted({spec.checkpoint.name for spec in task.specs}),
                    "spec_keys": [spec.key() for spec in task.specs],
                }
                for task in tasks
            ]
        },
    )
    number = max(pack_numbers(layout), default=-1) + 1
    while not create_bytes(_pack_file(layout, number), (text + "\n").encode()):
        number += 1  # another writer took it
    return number


def read_task(layout: RunLayout, number: int, index: int, plan: PlanFile) -> ArrayTask:
    """One array task of a pack, for its worker: of the plan, only its own checkpoints' specs are looked at.

    Raises InputError as `read_pack` does, and for a task that the pack lacks.
    """
    path = _pack_file(layout, number)
    if not path.is_file():
        raise InputError(f"no such pack; this run has {pack_numbers(layout)}", path=path)
    tasks = {task["index"]: task for task in read_json(path)["tasks"]}
    if index not in tasks:
        raise InputError(f"pack {number} has no task {index}; valid: 0..{len(tasks) - 1}", path=path)
    task = tasks[index]
    names = set(task.get("checkpoints", ()))  # earlier versions wrote none
    by_key = {spec.key(): spec for spec in plan.specs if not names or spec.checkpoint.name in names}
    try:
        specs = tuple(by_key[key] for key in task["spec_keys"])
    except KeyError as error:
        raise InputError(f"does not belong to plan.json: {error}", path=path) from None
    return ArrayTask(index, specs, task["estimated_minutes"])


def read_pack(layout: RunLayout, number: int, plan: PlanFile) -> list[ArrayTask]:
    """Array tasks of a pack. Raises InputError when the pack is missing or names a spec that the plan lacks."""
    path = _pack_file(layout, number)
    if not path.is_file():
        raise InputError(f"no such pack; this run has {pack_numbers(layout)}", path=path)
    try:
        return [
            ArrayTask(task["index"], tuple(plan.by_key[key] for key in task["spec_keys"]), task["estimated_minutes"])
            for task in read_json(path)["tasks"]
        ]
    except KeyError as error:
        raise InputError(f"does not belong to plan.json: {error}", path=path) from None
