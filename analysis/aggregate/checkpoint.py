"""One checkpoint's final tables from its sealed shards.

The one hard decision: a checkpoint is written by itself. Its tables need its own shards and the reference model's
scores, nothing of other checkpoints, so that any number of them can be written side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

from foreshock.analysis.aggregate.columns import EvalColumns, kl_columns, score_columns
from foreshock.analysis.aggregate.files import LevelTables, Table, whole_lines
from foreshock.analysis.aggregate.lines import NULL, SampleLines, read_samples
from foreshock.analysis.aggregate.scores import Divergence, ScoreLine, divergence, kl_line, read_score
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobKind, JobSpec

ScoreKey = tuple[bytes, bytes, bytes]
"""(level, task id, attempt), as JSON: what pairs a score with its eval row and its reference."""


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
    """Writes tables and keeps a `report` of them; meanwhile threads verify the next shards' checksums and see finished
    tables onto the disk.

    Attempt indices from `attempts_of_rollout` on are further rollouts of the same attempt; None if there are none.
    """

    def __init__(self, layout: RunLayout, attempts_of_rollout: int | None) -> None:
        self.report = AggregateReport()
        self._layout = layout
        self._store = ShardStore(layout)
        self._attempts_of_rollout = attempts_of_rollout
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="checksums")
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._finishing: list[Future[None]] = []

    def close(self) -> None:
        """Stop the threads."""
        self._ahead.shutdown(cancel_futures=True)
        self._behind.shutdown()

    def _later(self, finish: Callable[[], None]) -> None:
        self._finishing.append(self._behind.submit(finish))

    def _await_tables(self) -> None:
        """Raises what went wrong with any."""
        for finished in self._finishing:
            finished.result()
        self._finishing.clear()

    def write(
        self, name: str, specs: Mapping[JobKind, Sequence[JobSpec]], reference: Mapping[ScoreKey, Reference]
    ) -> None:
        """Everything of the checkpoint `name`, whose specs these are."""
        if JobKind.REF_LOGPROB in specs:
            self._write_reference(specs[JobKind.REF_LOGPROB], name)
        if JobKind.EVAL in specs:
            scoring = specs.get(JobKind.LOGPROB, ())
            outcomes = self._write_evals(specs[JobKind.EVAL], name, remember=bool(scoring))
            self._write_scores(scoring, name, outcomes, reference)
        if JobKind.GROUND_TRUTH in specs:
            path = self._layout.ground_truth_file(name)
            self.report.n_ground_truth += self._write_unprefilled(specs[JobKind.GROUND_TRUTH], path)
        if JobKind.EXTRA in specs:
            self.report.n_extra += self._write_unprefilled(specs[JobKind.EXTRA], self._layout.extra_file(name))
        self._await_tables()

    def read_references(self, specs: Iterable[JobSpec]) -> dict[ScoreKey, Reference]:
        """The reference model's scores; the `report` then tells what is missing of them."""
        return {
            (level, score.texts.task_id, score.texts.attempt_idx): Reference(score.sum, score.texts.prefill_sha256)
            for level, scores in self._scores(specs)
            for score in scores
            if score.sum is not None
        }

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
                for lines in whole_lines(file):
                    samples = read_samples(lines, self._attempts_of_rollout)
                    self.report.n_errors += samples.n_errors
                    yield samples

    def _scores(self, specs: Iterable[JobSpec]) -> Iterator[tuple[bytes, list[ScoreLine]]]:
        """A level and a shard's scores at it, in the shard's order."""
        for shard in self._sealed(specs):
            by_level: dict[bytes, list[ScoreLine]] = defaultdict(list)
            with shard.open("rb") as file:
                for line in file:
                    score = read_score(line)
                    by_level[score.level].append(score)
            for level, scores in by_level.items():
                self.report.n_errors += sum(score.texts.error != NULL for score in scores)
                yield level, scores

    def _write_evals(self, specs: Sequence[JobSpec], name: str, *, remember: bool) -> dict[ScoreKey, bytes]:
        """Write a checkpoint's eval and samples files; returns exploit_success by score key, if it is to `remember`."""
        outcomes: dict[ScoreKey, bytes] = {}
        by_level: dict[int, list[JobSpec]] = defaultdict(list)
        for spec in specs:
            by_level[spec.levels[0]].append(spec)
        for level, group in sorted(by_level.items()):
            level_json = b"%d" % level
            evals, samples = self._layout.eval_file(name, level), self._layout.samples_file(name, level)
            with Table(evals, self._later) as eval_table, Table(samples, self._later) as samples_table:
                columns = EvalColumns(eval_table.columns)
                for read in self._samples(group):
                    eval_table.write(read.eval_lines, read.n_rows)
                    columns.add(read)
                    samples_table.write(read.sample_lines, read.n_rows)
                    if remember:
                        tasks, attempts, told = read.outcomes
                        outcomes.update(zip(zip(repeat(level_json), tasks, attempts), told, strict=True))
                columns.flush()
            self.report.n_eval += self._count(eval_table)
            self._count(samples_table)
        return outcomes

    def _write_unprefilled(self, specs: Sequence[JobSpec], path: Path) -> int:
        with Table(path, self._later) as table:
            for read in self._samples(specs):
                table.write(read.eval_lines, read.n_rows)
        return self._count(table)

    def _write_reference(self, specs: Sequence[JobSpec], name: str) -> None:
        """Write the reference model's scores."""
        with LevelTables(lambda level: self._layout.ref_logprob_file(name, int(level)), self._later) as tables:
            for level, scores in self._scores(specs):
                outcomes = [NULL] * len(scores)
                tables[level].write(_joined(scores, outcomes), len(scores))
                tables[level].columns.add(score_columns(scores, outcomes))
        self.report.n_ref_logprob += sum(map(self._count, tables.values()))

    def _write_scores(
        self,
        specs: Sequence[JobSpec],
        name: str,
        outcomes: Mapping[ScoreKey, bytes],
        reference: Mapping[ScoreKey, Reference],
    ) -> None:
        """Write a checkpoint's scores, and log Q(z) - log P(z) for every prefill scored under both models."""
        with (
            LevelTables(lambda level: self._layout.logprob_file(name, int(level)), self._later) as tables,
            LevelTables(lambda level: self._layout.kl_file(name, int(level)), self._later) as kl,
        ):
            for level, scores in self._scores(specs):
                keys = [(level, score.texts.task_id, score.texts.attempt_idx) for score in scores]
                told = [outcomes.get(key, NULL) for key in keys]
                columns = score_columns(scores, told)
                tables[level].write(_joined(scores, told), len(scores))
                tables[level].columns.add(columns)
                differing = [_differing(score, reference.get(key)) for score, key in zip(scores, keys, strict=True)]
                rows = zip(scores, told, differing, strict=True)
                lines = [kl_line(score, outcome, by) for score, outcome, by in rows if by is not None]
                if lines:
                    kl[level].write(b"".join(lines), len(lines))
                    kl[level].columns.add(kl_columns(columns, differing))
        self.report.n_logprob += sum(map(self._count, tables.values()))
        self.report.n_kl += sum(map(self._count, kl.values()))

    def _count(self, table: Table) -> int:
        self.report.files += table.n_rows > 0
        return table.n_rows


def _joined(scores: Iterable[ScoreLine], outcomes: Iterable[bytes]) -> bytes:
    return b"".join([score.with_outcome(outcome) for score, outcome in zip(scores, outcomes, strict=True)])


def _differing(score: ScoreLine, donor: Reference | None) -> Divergence | None:
    """None where there is no second score of the same prefill."""
    if donor is None or score.sum is None or donor.prefill_sha256 != score.texts.prefill_sha256:
        return None
    return divergence(score, donor.logprob_sum)
