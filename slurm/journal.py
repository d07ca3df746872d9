"""The submission journal: which jobs a pack becomes, and how far their submission got.

A job's name carries a random token and is on disk before sbatch is called. Whatever happens between sbatch and the
next write (a killed launcher, an answer that got lost, a site's own wording), the job is found again by its name.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError


class Stage(StrEnum):
    """How far one job is on its way to Slurm."""

    PLANNED = "planned"
    SUBMITTING = "submitting"  # sbatch may or may not have been reached
    SUBMITTED = "submitted"
    EMITTED = "emitted"  # handed to a person as a script; found by name if it was ever submitted
    DROPPED = "dropped"  # refused, or not in Slurm when somebody looked; its work is planned anew


_LABEL = 32  # characters of a run's name and of what an array covers


@dataclass(frozen=True, slots=True)
class JournaledJob:
    """An array (with the tasks of each element) or the final job (without elements). `why` it was dropped.

    `profile`: 0 for the submission's own, 1 for the first of its further ones.
    """

    name: str
    elements: tuple[tuple[int, ...], ...] = ()
    stage: Stage = Stage.PLANNED
    job_id: int | None = None
    why: str | None = None
    profile: int = 0


@dataclass(frozen=True)
class Submission:
    """One pack's way into the queue; `rounds_left` is how often its last job may submit missing work again."""

    token: str
    pack: int
    created: str
    profile: str
    rounds_left: int
    arrays: tuple[JournaledJob, ...]
    final: JournaledJob | None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[JournaledJob, ...]:
        """Arrays, then the final job."""
        return self.arrays + ((self.final,) if self.final else ())

    @property
    def names(self) -> list[str]:
        """Names of the jobs that may be in Slurm."""
        return [job.name for job in self.jobs if job.stage is not Stage.DROPPED]

    @property
    def since(self) -> datetime:
        """When it was made, with its time zone (earlier versions wrote local time)."""
        return datetime.fromisoformat(self.created).astimezone(UTC)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to submit."""
        return all(job.stage in (Stage.SUBMITTED, Stage.EMITTED, Stage.DROPPED) for job in self.jobs)

    def with_job(self, job: JournaledJob) -> Submission:
        """The same with the job of that name replaced."""
        if self.final is not None and self.final.name == job.name:
            return replace(self, final=job)
        return replace(self, arrays=tuple(job if old.name == job.name else old for old in self.arrays))

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Submission:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError for other data."""

        def job(entry: dict[str, Any]) -> JournaledJob:
            elements = tuple(tuple(int(task) for task in tasks) for tasks in entry["elements"])
            return JournaledJob(entry["name"], elements, Stage(entry["stage"]), entry["job_id"], entry.get("why"),
                                entry.get("profile", 0))  # fmt: skip

        arrays = tuple(job(entry) for entry in data["arrays"])
        return cls(**data | {"arrays": arrays, "final": job(data["final"]) if data["final"] else None})


def new_submission(
    pack: int,
    arrays: Sequence[Sequence[Sequence[int]]],
    profile: str,
    rounds_left: int,
    settings: dict[str, Any],
    labels: Sequence[str] = (),
    run: str = "",
    profiles: Sequence[int] = (),
) -> Submission:
    """A fresh journal entry: `arrays[a][e]` lists the tasks of element e of array a, `profiles[a]` names its profile.

    `run` and, of each array, `labels` go into the jobs' names, for people who look at the queue.
    """
    token = secrets.token_hex(4)
    return Submission(
        token=token,
        pack=pack,
        created=datetime.now(UTC).replace(microsecond=0).isoformat(),
        profile=profile,
        rounds_left=rounds_left,
        arrays=tuple(
            JournaledJob(
                _job_name(run, labels[i] if i < len(labels) else "", f"fs-{token}-a{i}"),
                tuple(tuple(element) for element in elements),
                profile=profiles[i] if i < len(profiles) else 0,
            )
            for i, elements in enumerate(arrays)
        ),
        final=JournaledJob(_job_name(run, "", f"fs-{token}-end")),
        settings=settings,
    )


def final_again(submission: Submission) -> JournaledJob:
    """A last job in place of one that was dropped, under a name that no job has."""
    base = "fs-" + submission.token
    old = submission.final.name if submission.final else f"{base}-end"
    return JournaledJob(f"{old.partition(base)[0]}{base}.{secrets.token_hex(2)}-end")


def _job_name(run: str, label: str, unique: str) -> str:
    """The run first, since queues show eight characters; without what a shell or a file name might take amiss."""
    parts = [re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.")[:_LABEL] for part in (run, label)]
    return "_".join([*(part for part in parts if part), unique])


class Journal:
    """The submissions of one run, below `slurm/` in its directory."""

    def __init__(self, run_dir: Path) -> None:
        self.root = run_dir / "slurm"

    def folder(self, pack: int) -> Path:
        """Everything about one submission: journal, scripts."""
        return self.root / f"pack-{pack:04d}"

    def cancel_marker(self, token: str) -> Path:
        """Its presence keeps jobs of that submission from requeueing themselves."""
        return self.root / f"cancelled-{token}"

    def dropped_marker(self, name: str) -> Path:
        """Its presence makes a job of that name leave at once, should it turn up after all."""
        return self.root / f"dropped-{name}"

    def save(self, submission: Submission) -> None:
        """Make the entry durable before anything else happens."""
        path = self.folder(submission.pack) / "submission.json"
        atomic_write_bytes(path, json.dumps(submission.to_json(), indent=1).encode())

    def load_all(self) -> list[Submission]:
        """Every submission, oldest first. Raises InputError for a damaged entry."""
        found = []
        for path in sorted(self.root.glob("pack-*/submission.json")):
            try:
                found.append(Submission.from_json(json.loads(path.read_text(encoding="utf-8"))))
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"not a submission journal: {error!r}", path=path) from None
        return found
