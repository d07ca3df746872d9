"""Splitting on a run's checkpoints: repeats, one row each, by checkpoint and exploit type.

A repeat is the unit of resuming: all of its draws follow from its place, so that repeats of any process are the same,
and further ones can be added at any time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from foreshock.analysis.splitting.splitting import MIN_REPEATS, one_repeat, require_levels, walk
from foreshock.batch.on_runs.opened import OpenedRun, Tally
from foreshock.batch.on_runs.writing import STOPPED, Writer, Writing
from foreshock.batch.planning.specs import content_digest
from foreshock.durable import sweep_temporaries
from foreshock.errors import InputError, StopRequestedError
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.ran_records import planned_by, write_ran
from foreshock.jobs.records.rows import SCHEMA_VERSION, Row
from foreshock.jobs.records.spec import JobSpec
from foreshock.jobs.records.table_files import has_table
from foreshock.jobs.records.table_writers import TablesAsMade
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.verify.base import Verifier
from foreshock.ran import Recorder
from foreshock.slurm.lock import LauncherLock

_N_LEVELS = 8


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """particles: beginnings of a repeat. levels: tokens at which they are scored; empty: spread over the run's own
    answers. power: of the exploit code's probability that makes a score; None: chosen level by level in a pilot. types:
    exploit types; empty: all. Raises InputError for values that cannot be meant."""

    particles: int = 128
    repeats: int = 8
    levels: tuple[int, ...] = ()
    power: float | None = None
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            require_levels(self.levels, self.particles)
        except ValueError as error:
            raise InputError(str(error), fix="foreshock split --help") from None
        if self.repeats < MIN_REPEATS:
            raise InputError(f"--repeats is {self.repeats}; the standard error takes at least {MIN_REPEATS}")
        if self.power is not None and not 0 < self.power <= 2:
            raise InputError(f"--power is {self.power:g}; valid: above 0, at most 2")


@dataclass(frozen=True, slots=True)
class Part:
    """A checkpoint and exploit type to split: its tasks, levels, and the digest of all that decides its repeats."""

    spec: JobSpec
    exploit_type: str
    tasks: tuple[str, ...]
    levels: tuple[int, ...]
    recipe: str


@dataclass
class SplitReport:
    """Files written; repeats that were there and that are new."""

    files: list[Path] = field(default_factory=list)
    n_kept: int = 0
    n_new: int = 0


class Splitting:
    """Splits the checkpoints of one run. `stop` is asked between batches; `tally` counts repeats."""

    def __init__(
        self,
        run: OpenedRun,
        settings: SplitSettings,
        stop: Callable[[], bool],
        say: Callable[[str], None],
        tally: Tally = Tally(),  # noqa: B008 - frozen, so that callers may share it
    ) -> None:
        self._run, self._settings, self._stop, self._say, self._tally = run, settings, stop, say, tally
        self._recorder = Recorder(planned_by(run.plan.settings))
        self.parts = self._parts()

    def output(self, spec: JobSpec) -> Path:
        """The file of a checkpoint."""
        return self._run.layout.splitting / f"{spec.checkpoint.name}.jsonl"

    def measure(self, *, force: bool) -> SplitReport:
        """Make the repeats that are missing. Raises InputError where a file holds repeats of other settings and `force`
        is not given, or another process splits this run; StopRequestedError on request, with finished repeats kept."""
        report = SplitReport()
        lock = LauncherLock(self.lock)
        lock.acquire()
        try:
            sweep_temporaries(self.lock.parent)  # of a kill while a file was written
            rows = {part.spec.checkpoint.name: self._kept(part.spec, force) for part in self.parts}
            missing = [part for part in self.parts if self._missing(part, rows[part.spec.checkpoint.name])]
            tables = TablesAsMade(self.lock.parent, self._run.plan.tables_archived)
            report.n_kept = sum(map(len, rows.values()))
            self._tally.found(report.n_kept)
            if missing:
                with self._run.engine() as engine, self._run.verifier() as verifier:
                    self._make(engine, verifier, missing, rows, report, tables)
            tables.finish()
        finally:
            lock.release()
        report.files = list(filter(has_table, dict.fromkeys(self.output(part.spec) for part in self.parts)))
        return report

    @property
    def lock(self) -> Path:
        """Held while a process splits."""
        return self._run.layout.splitting / "splitting.lock"

    def is_missing(self, *, force: bool) -> bool:
        """Whether there is a repeat to make. Raises InputError as `measure` does."""
        return any(self._missing(part, self._kept(part.spec, force)) for part in self.parts)

    def _make(
        self,
        engine: Engine,
        verifier: Verifier,
        missing: Sequence[Part],
        rows: dict[str, list[Row]],
        report: SplitReport,
        tables: TablesAsMade,
    ) -> None:
        loaded = None
        for part in missing:
            if loaded != part.spec.checkpoint:
                self._run.load(engine, part.spec)
                loaded = part.spec.checkpoint
            own = rows[part.spec.checkpoint.name]
            writer = self._writer(engine, verifier, part.spec)
            powers = self._powers(writer, part, own)
            for repeat in self._missing(part, own):
                if self._stop():
                    raise StopRequestedError(STOPPED)
                row = self._repeat(writer, part, repeat, powers)
                own.append(row)
                write_jsonl(self.output(part.spec), own)
                tables.made(self.output(part.spec))
                report.n_new += 1
                self._tally.added(1)
                self._say(
                    f"{part.spec.checkpoint.name}, {part.exploit_type}, {repeat + 1} of {self._settings.repeats}: "
                    f"{row['rate']:.3g} ({row['exploits']} of {row['particles']} ended in an exploit)"
                )

    def _writer(self, engine: Engine, verifier: Verifier, spec: JobSpec) -> Writer:
        return Writer(
            engine,
            verifier,
            self._run.prompt_format(spec),
            load_tokenizer(spec.checkpoint.tokenizer_path),
            self._run.plan.settings,
            spec.sampling,
            self._run.inputs.problems,
            self._stop,
        )

    def _powers(self, writer: Writer, part: Part, rows: Sequence[Row]) -> dict[int, float]:
        """Those given, or of the repeats that are there, or of a pilot."""
        if self._settings.power is not None:
            return dict.fromkeys(part.levels, self._settings.power)
        there = next((row["powers"] for row in rows if row["exploit_type"] == part.exploit_type), None)
        if there is not None:
            return dict(zip(part.levels, there, strict=True))
        pilot = Writing(writer, part.tasks, (part.spec.checkpoint.name, part.exploit_type, "pilot"), {})
        walk(pilot, part.levels, self._settings.particles, _rng(part, "pilot"))
        return pilot.powers

    def _repeat(self, writer: Writer, part: Part, repeat: int, powers: dict[int, float]) -> Row:
        started = time.perf_counter()
        process = Writing(writer, part.tasks, (part.spec.checkpoint.name, part.exploit_type, repeat), powers)
        found = one_repeat(process, part.levels, self._settings.particles, _rng(part, repeat))
        tier = getattr(writer.verifier, "tier", None)
        ran = self._recorder.ran(None if tier is None else str(tier.value))
        spent = process.spent
        return {
            "checkpoint": part.spec.checkpoint.name,
            "exploit_type": part.exploit_type,
            "repeat": repeat,
            "rate": found.rate,
            "particles": self._settings.particles,
            "levels": list(part.levels),
            "powers": [powers[level] for level in part.levels],
            "n_tasks": len(part.tasks),
            "survivors": [round(share, 4) for share in found.survivors],
            "exploits": spent.exploits,
            "unread": spent.unread,
            "output_tokens": spent.output_tokens,
            "scored": spent.scored,
            "seconds": round(time.perf_counter() - started, 2),
            "recipe": part.recipe,
            "ran": write_ran(self._run.layout, ran),
            "schema_version": SCHEMA_VERSION,
        }

    def _parts(self) -> list[Part]:
        problems, settings = self._run.inputs.problems, self._run.plan.settings
        by_type: dict[str, list[str]] = {}
        for task, problem in problems.items():
            by_type.setdefault(problem.exploit_type, []).append(task)
        unknown = [name for name in self._settings.types if name not in by_type]
        if unknown:
            raise InputError(f"no problem of type {unknown[0]!r} in this run; valid: {', '.join(sorted(by_type))}")
        parts = []
        for spec in self._run.specs:
            self._require_splittable(spec)
            levels = self._settings.levels or self._levels(spec)
            for kind in self._settings.types or sorted(by_type):
                tasks = by_type[kind]
                decides: dict[str, Any] = {
                    "model": spec.model_fingerprint,
                    "template": spec.template_sha256,
                    "verifier": spec.verifier,
                    "sampling": spec.identity()["sampling"],
                    "problems": content_digest([problems[task] for task in tasks]),
                    "instructions": settings.instructions,
                    "levels": levels,
                    "particles": self._settings.particles,
                    "power": self._settings.power,
                }
                parts.append(Part(spec, kind, tuple(tasks), levels, content_digest(decides)))
        return parts

    def _require_splittable(self, spec: JobSpec) -> None:
        if spec.sampling.temperature == 0:
            raise InputError("the run samples at temperature 0, so every beginning would go on alike")
        if self._run.prompt_format(spec).layout.closing is None:
            raise InputError(
                "its prompts have no reasoning section, and beginnings are told apart by their reasoning",
                path=spec.checkpoint.path,
                fix="sample it directly: ground_truth.attempts",
            )
        problems, text = self._run.inputs.problems.values(), self._run.plan.settings.instructions
        if all(exploit_answer(problem, text) is None for problem in problems):
            raise InputError(
                "no problem has exploit code, whose probability scores beginnings",
                fix="give problems their `exploit` (docs/problems.md)",
            )

    def _levels(self, spec: JobSpec) -> tuple[int, ...]:
        """Evenly over the middle answer's length among the run's own unprompted samples."""
        path = self._run.layout.eval_file(spec.checkpoint.name, 0)
        rows = read_rows(path, ("output_tokens",)) if has_table(path) else []
        lengths = sorted(row["output_tokens"] for row in rows if row["output_tokens"])
        if not lengths:
            raise InputError(
                f"no samples at level 0 of {spec.checkpoint.name}, whose lengths would place the levels",
                path=path,
                fix="give --levels, in tokens: 16,32,48,64",
            )
        middle = lengths[len(lengths) // 2]
        return tuple(sorted({round(middle * i / _N_LEVELS) for i in range(1, _N_LEVELS)} - {0}))

    def _kept(self, spec: JobSpec, force: bool) -> list[Row]:
        path = self.output(spec)
        rows = read_rows(path, ("exploit_type", "repeat", "rate", "powers", "recipe")) if has_table(path) else []
        recipes = {part.exploit_type: part.recipe for part in self.parts if part.spec is spec}
        other = [row for row in rows if recipes.get(row["exploit_type"], row["recipe"]) != row["recipe"]]
        if other and not force:
            raise InputError(
                f"holds {len(other)} repeats of {other[0]['exploit_type']} with another model, levels, particles or "
                f"power (levels {other[0].get('levels')}, particles {other[0].get('particles')}, "
                f"powers {other[0].get('powers')})",
                path=path,
                fix="give the same settings to go on with them, or --force to drop them",
            )
        return [row for row in rows if row not in other]

    def _missing(self, part: Part, rows: Sequence[Row]) -> list[int]:
        there = {row["repeat"] for row in rows if row["exploit_type"] == part.exploit_type}
        return [repeat for repeat in range(self._settings.repeats) if repeat not in there]


def _rng(part: Part, which: object) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(repr((part.recipe, which)).encode()).digest()))
