"""One checkpoint's final tables from its sealed shards.

The one hard decision: a checkpoint is written by itself. Its tables need its own shards and the reference model's
scores, nothing of other checkpoints, so that any number of them can be written side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from foreshock.analysis.aggregate.files import LevelTables, Table
from foreshock.analysis.aggregate.lines import NULL, SampleLines, ScoreLine, kl_line, read_samples, read_score
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobKind, JobSpec

ScoreKey = tuple[bytes, bytes, bytes]
"""(level, task id, attempt), as JSON: what pairs a score with its eval row and its reference."""

_BLOCK = 1 << 22
"""Bytes of a shard that are looked at together."""


class Reference(NamedTuple):
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

    def add(self, other: AggregateReport) -> None:
        """Take over what was written and missed elsewhere."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class CheckpointTables(Closing):
    """Writes tables and keeps a `report` of them; meanwhile a thread verifies the next shards' checksums.

    Attempt indices from `attempts_of_rollout` on are further rollouts of the same attempt; None if there are none.
    """

    def __init__(self, layout: RunLayout, attempts_of_rollout: int | None) -> None:
        self.report = AggregateReport()
        self._layout = layout
        self._store = ShardStore(layout)
        self._attempts_of_rollout = attempts_of_rollout
        self._ahead: Executor = ThreadPoolExecutor(1, thread_name_prefix="checksums")

    def close(self) -> None:
        """Stop the thread."""
        self._ahead.shutdown(cancel_futures=True)

    def write(
        self, name: str, specs: Mapping[JobKind, Sequence[JobSpec]], reference: Mapping[ScoreKey, Reference]
    ) -> None:
        """Everything of the checkpoint `name`, whose specs these are."""
        if JobKind.EVAL in specs:
            scoring = specs.get(JobKind.LOGPROB, ())
            outcomes = self._write_evals(specs[JobKind.EVAL], name, remember=bool(scoring))
            self._write_scores(scoring, name, outcomes, reference)
        if JobKind.GROUND_TRUTH in specs:
            path = self._layout.ground_truth_file(name)
            self.report.n_ground_truth += self._write_unprefilled(specs[JobKind.GROUND_TRUTH], path)
        if JobKind.EXTRA in specs:
            self.report.n_extra += self._write_unprefilled(specs[JobKind.EXTRA], self._layout.extra_file(name))

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
        for shard in self._sealed(specs):
            with shard.open("rb") as file:
                while lines := file.readlines(_BLOCK):
                    samples = read_samples(b"".join(lines), self._attempts_of_rollout)
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

    def write_reference(self, specs: Sequence[JobSpec], name: str) -> dict[ScoreKey, Reference]:
        """Write the reference model's scores; returns them by score key."""
        found: dict[ScoreKey, Reference] = {}
        with LevelTables(lambda level: self._layout.ref_logprob_file(name, int(level))) as tables:
            for score in self._scores(specs):
                tables[score.level].write(score.with_outcome(NULL), 1)
                if score.logprob_sum is not None:
                    key = (score.level, score.task_id, score.attempt_idx)
                    found[key] = Reference(score.logprob_sum, score.prefill_sha256)
        self.report.n_ref_logprob += sum(map(self._count, tables.values()))
        return found

    def _write_scores(
        self,
        specs: Sequence[JobSpec],
        name: str,
        outcomes: Mapping[ScoreKey, bytes],
        reference: Mapping[ScoreKey, Reference],
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
