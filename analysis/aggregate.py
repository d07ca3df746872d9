"""Shards to the run's final tables: evals/, samples, logprob/, ref_logprob/, kl/, ground_truth/, extra/.

The one hard decision: this is the only writer of those files. It rewrites a cell whole from whatever shards are
sealed, in canonical order, so the tables of a resumed run equal those of an uninterrupted one byte for byte, and
aggregating an unfinished run is safe and says what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from foreshock.analysis.table_files import LevelTables, Table
from foreshock.analysis.table_lines import NULL, SampleLines, ScoreLine, kl_line, read_samples, read_score
from foreshock.jobs.records.jsonl import sweep_temporaries
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobKind, JobSpec

ScoreKey = tuple[bytes, bytes, bytes]
"""(level, task id, attempt), as JSON: what pairs a score with its eval row and its reference."""

_BLOCK = 1 << 22
"""Bytes of a shard that are looked at together."""


class _Reference(NamedTuple):
    """A prefill's score under the model that it comes from."""

    logprob_sum: float
    prefill_sha256: bytes


@dataclass
class AggregateReport:
    """What was written and what is missing. Counts are rows; `missing` names cells without a complete shard."""

    n_eval: int = 0
    n_logprob: int = 0
    n_ref_logprob: int = 0
    n_kl: int = 0
    n_ground_truth: int = 0
    n_extra: int = 0
    n_errors: int = 0
    n_skipped: int = 0
    missing: list[dict[str, Any]] = field(default_factory=list)
    files: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


def aggregate(layout: RunLayout, on_cell: Callable[[str], None] = lambda _: None) -> AggregateReport:
    """Write every final table that the sealed shards allow; returns counts and missing cells."""
    plan = PlanFile.read(layout)
    with ThreadPoolExecutor(1, thread_name_prefix="checksums") as ahead:
        aggregator = _Aggregator(layout, plan, on_cell, ahead)
        aggregator.run()
    return aggregator.report


class _Aggregator:
    def __init__(self, layout: RunLayout, plan: PlanFile, on_cell: Callable[[str], None], ahead: Executor) -> None:
        self._layout = layout
        self._ahead = ahead  # one thread that verifies the next shards' checksums
        self._plan = plan
        self._store = ShardStore(layout)
        self._on_cell = on_cell
        self.report = AggregateReport(n_skipped=sum(item.n_tasks for item in plan.skipped))

    def run(self) -> None:
        layout = self._layout
        for folder in (layout.evals, layout.logprob, layout.ref_logprob, layout.kl, layout.ground_truth, layout.extra):
            sweep_temporaries(folder)
        specs: dict[tuple[JobKind, str], list[JobSpec]] = defaultdict(list)
        for spec in self._plan.specs:
            specs[spec.kind, spec.checkpoint.name].append(spec)
        reference: dict[ScoreKey, _Reference] = {}
        for (kind, name), group in specs.items():
            if kind is JobKind.REF_LOGPROB:
                reference |= self._write_reference(group, name)
        for (kind, name), group in specs.items():
            if kind is JobKind.EVAL:
                self._on_cell(name)
                scoring = specs.get((JobKind.LOGPROB, name), [])
                outcomes = self._write_evals(group, name, remember=bool(scoring))
                self._write_scores(scoring, name, outcomes, reference)
            elif kind is JobKind.GROUND_TRUTH:
                self.report.n_ground_truth += self._write_unprefilled(group, layout.ground_truth_file(name))
            elif kind is JobKind.EXTRA:
                self.report.n_extra += self._write_unprefilled(group, layout.extra_file(name))

    def _sealed(self, specs: Iterable[JobSpec]) -> Iterator[Path]:
        """Files of sealed shards in shard order; shards that are not sealed are reported as missing."""
        ordered = sorted(specs, key=lambda s: (s.levels, s.shard_index))
        for spec, manifest in zip(ordered, self._ahead.map(self._store.manifest, ordered), strict=True):
            if manifest is None:
                self.report.missing.append(
                    {
                        "kind": spec.kind.value,
                        "checkpoint": spec.checkpoint.name,
                        "levels": list(spec.levels),
                        "shard": spec.shard_index,
                        "n_tasks": len(spec.task_ids),
                    }
                )
                continue
            if manifest.n_errors == 0:
                self._store.discard_parts(spec)
            yield self._layout.shard_file(spec)

    def _samples(self, specs: Iterable[JobSpec]) -> Iterator[SampleLines]:
        rollouts = None if self._plan.n_rollouts == 1 else self._plan.n_attempts
        for shard in self._sealed(specs):
            with shard.open("rb") as file:
                while lines := file.readlines(_BLOCK):
                    samples = read_samples(b"".join(lines), rollouts)
                    self.report.n_errors += samples.n_errors
                    yield samples

    def _scores(self, specs: Iterable[JobSpec]) -> Iterator[ScoreLine]:
        for shard in self._sealed(specs):
            with shard.open("rb") as file:
                for line in file:
                    score = read_score(line)
                    self.report.n_errors += score.is_error
                    yield score

    def _write_evals(self, specs: Sequence[JobSpec], name: str, *, remember: bool) -> dict[ScoreKey, bytes]:
        """Write a checkpoint's eval and samples files; returns exploit_success by score key, if it is to `remember`."""
        outcomes: dict[ScoreKey, bytes] = {}
        by_level: dict[int, list[JobSpec]] = defaultdict(list)
        for spec in specs:
            by_level[spec.levels[0]].append(spec)
        for level, group in sorted(by_level.items()):
            level_json = b"%d" % level
            evals, samples = self._layout.eval_file(name, level), self._layout.samples_file(name, level)
            with Table(evals) as eval_table, Table(samples) as samples_table:
                for read in self._samples(group):
                    eval_table.write(read.eval_lines, read.n_rows)
                    samples_table.write(read.sample_lines, read.n_rows)
                    if remember:
                        outcomes |= {(level_json, task, attempt): told for task, attempt, told in read.outcomes}
            self.report.n_eval += self._count(eval_table)
            self._count(samples_table)
        return outcomes

    def _write_unprefilled(self, specs: Sequence[JobSpec], path: Path) -> int:
        with Table(path) as table:
            for read in self._samples(specs):
                table.write(read.eval_lines, read.n_rows)
        return self._count(table)

    def _write_reference(self, specs: Sequence[JobSpec], name: str) -> dict[ScoreKey, _Reference]:
        """Write the reference model's scores; returns them by score key."""
        found: dict[ScoreKey, _Reference] = {}
        with LevelTables(lambda level: self._layout.ref_logprob_file(name, int(level))) as tables:
            for score in self._scores(specs):
                tables[score.level].write(score.with_outcome(NULL), 1)
                if score.logprob_sum is not None:
                    key = (score.level, score.task_id, score.attempt_idx)
                    found[key] = _Reference(score.logprob_sum, score.prefill_sha256)
        self.report.n_ref_logprob += sum(map(self._count, tables.values()))
        return found

    def _write_scores(
        self,
        specs: Sequence[JobSpec],
        name: str,
        outcomes: Mapping[ScoreKey, bytes],
        reference: Mapping[ScoreKey, _Reference],
    ) -> None:
        """Write a checkpoint's scores, and log Q(z) - log P(z) for every prefill scored under both models."""
        with (
            LevelTables(lambda level: self._layout.logprob_file(name, int(level))) as scores,
            LevelTables(lambda level: self._layout.kl_file(name, int(level))) as kl,
        ):
            for score in self._scores(specs):
                key = (score.level, score.task_id, score.attempt_idx)
                outcome = outcomes.get(key, NULL)
                scores[score.level].write(score.with_outcome(outcome), 1)
                donor = reference.get(key)
                if donor is None or score.logprob_sum is None or donor.prefill_sha256 != score.prefill_sha256:
                    continue
                kl[score.level].write(kl_line(score, outcome, donor.logprob_sum), 1)
        self.report.n_logprob += sum(map(self._count, scores.values()))
        self.report.n_kl += sum(map(self._count, kl.values()))

    def _count(self, table: Table) -> int:
        self.report.files += table.n_rows > 0
        return table.n_rows
