"""One checkpoint's final tables from its sealed shards.

A checkpoint is written by itself. Its tables need its own shards and the reference model's scores, nothing of other
checkpoints, so that any number of them can be written side by side.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from foreshock.analysis.aggregate.columns import eval_columns, kl_columns, score_columns
from foreshock.analysis.aggregate.files import LevelTables, Table
from foreshock.analysis.aggregate.lines import Outcomes, SampleLines, read_samples
from foreshock.analysis.aggregate.pairs import KnownOutcomes, References, no_outcomes
from foreshock.analysis.aggregate.scores import Scores, divergences, kl_lines, read_scores
from foreshock.analysis.aggregate.sealed import SealedShards
from foreshock.jobs.closing import Closing
from foreshock.jobs.records.rows import ERROR_KEY
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.records.spec import JobKind, JobSpec
from foreshock.jobs.records.table_archives import TableArchives


@dataclass
class AggregateReport:
    """What was written and what is missing. Counts are rows; `missing` names cells without a complete shard."""

    n_eval: int = 0
    n_logprob: int = 0
    n_ref_logprob: int = 0
    n_kl: int = 0
    n_ground_truth: int = 0
    n_extra: int = 0
    n_exploit_logprob: int = 0
    n_errors: int = 0
    n_skipped: int = 0
    missing: list[dict[str, Any]] = field(default_factory=list)
    files: int = 0
    set_aside: list[str] = field(default_factory=list)
    """Archives of tables that could not be read, by their new names."""

    def add(self, other: AggregateReport) -> None:
        """Take over what was written and missed elsewhere."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return dict(vars(self))


class CheckpointTables(Closing):
    """Writes tables and keeps a `report` of them; meanwhile threads read the next shards and see finished tables onto
    the disk.

    Attempt indices from `attempts_of_rollout` on are further rollouts of the same attempt; None if there are none.
    `archives` get the tables of a large run; the caller commits them.
    """

    def __init__(
        self, store: ShardStore, attempts_of_rollout: int | None, archives: TableArchives | None = None
    ) -> None:
        self.report = AggregateReport()
        self._archives = archives
        self._layout = store.layout
        self._shards = SealedShards(store)
        self._attempts_of_rollout = attempts_of_rollout
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._finishing: list[Future[None]] = []

    def close(self) -> None:
        """Stop the threads."""
        self._shards.close()
        self._behind.shutdown()

    def _table(self, path: Path) -> Table:
        return Table(path, self._later, self._archives)

    def _tables(self, path_of: Callable[[bytes], Path]) -> LevelTables:
        return LevelTables(path_of, self._later, self._archives)

    def _later(self, finish: Callable[[], None]) -> None:
        self._finishing.append(self._behind.submit(finish))

    def _await_tables(self) -> None:
        """Raises what went wrong with any."""
        for finished in self._finishing:
            finished.result()
        self._finishing.clear()

    def write(self, name: str, specs: Mapping[JobKind, Sequence[JobSpec]], references: References) -> None:
        """Everything of the checkpoint `name`, whose specs these are."""
        if JobKind.REF_LOGPROB in specs:
            self._write_reference(specs[JobKind.REF_LOGPROB], name)
        if JobKind.EVAL in specs:
            scoring = specs.get(JobKind.LOGPROB, ())
            outcomes = self._write_evals(specs[JobKind.EVAL], name, remember=bool(scoring))
            self._write_scores(scoring, name, outcomes, references)
        if JobKind.GROUND_TRUTH in specs:
            path = self._layout.ground_truth_file(name)
            self.report.n_ground_truth += self._write_unprefilled(specs[JobKind.GROUND_TRUTH], path)
        if JobKind.EXTRA in specs:
            self.report.n_extra += self._write_unprefilled(specs[JobKind.EXTRA], self._layout.extra_file(name))
        codes = [specs[kind] for kind in (JobKind.EXPLOIT_LOGPROB, JobKind.HONEST_LOGPROB) if kind in specs]
        if codes:
            self._write_exploit_codes(codes, name)
        self._await_tables()

    def read_references(self, specs: Iterable[JobSpec]) -> References:
        """The reference model's scores; the `report` then tells what is missing of them."""
        return References(scores for _, scores in self._scores(specs))

    def _blocks(self, specs: Iterable[JobSpec]) -> Iterator[memoryview]:
        return self._shards.blocks(specs, self._add_missing)

    def _add_missing(self, spec: JobSpec) -> None:
        self.report.missing.append(
            {
                "kind": spec.kind.value,
                "checkpoint": spec.checkpoint.name,
                "levels": list(spec.levels),
                "shard": spec.shard_index,
                "n_tasks": len(spec.task_ids),
            }
        )

    def _samples(self, specs: Iterable[JobSpec]) -> Iterator[SampleLines]:
        for lines in self._blocks(specs):
            samples = read_samples(lines, self._attempts_of_rollout)
            self.report.n_errors += samples.n_errors
            yield samples

    def _scores(self, specs: Iterable[JobSpec]) -> Iterator[tuple[bytes, Scores]]:
        """A level and scores at it."""
        for lines in self._blocks(specs):
            for level, scores in read_scores(lines):
                self.report.n_errors += scores.n_errors
                yield level, scores

    def _write_evals(self, specs: Sequence[JobSpec], name: str, *, remember: bool) -> KnownOutcomes:
        """Write a checkpoint's eval and samples files; returns their outcomes, if it is to `remember` them."""
        outcomes: dict[bytes, list[Outcomes]] = defaultdict(list)
        by_level: dict[int, list[JobSpec]] = defaultdict(list)
        for spec in specs:
            by_level[spec.levels[0]].append(spec)
        for level, group in sorted(by_level.items()):
            evals, samples = self._layout.eval_file(name, level), self._layout.samples_file(name, level)
            with self._table(evals) as eval_table, self._table(samples) as samples_table:
                for read in self._samples(group):
                    eval_table.write(read.eval_lines, read.n_rows)
                    eval_table.columns.add(eval_columns(read))
                    samples_table.write(read.sample_lines, read.n_rows)
                    if remember:
                        outcomes[b"%d" % level].append(read.outcomes)
            self.report.n_eval += self._count(eval_table)
            self._count(samples_table)
        return KnownOutcomes(outcomes)

    def _write_unprefilled(self, specs: Sequence[JobSpec], path: Path) -> int:
        with self._table(path) as table:
            for read in self._samples(specs):
                table.write(read.eval_lines, read.n_rows)
        return self._count(table)

    def _write_reference(self, specs: Sequence[JobSpec], name: str) -> None:
        """Write the reference model's scores."""
        with self._tables(lambda level: self._layout.ref_logprob_file(name, int(level))) as tables:
            for level, scores in self._scores(specs):
                _write(tables[level], scores, no_outcomes(scores.n_rows))
        self.report.n_ref_logprob += sum(map(self._count, tables.values()))

    def _write_exploit_codes(self, kinds: Sequence[Sequence[JobSpec]], name: str) -> None:
        """Lines as the shards have them, kind by kind however they are cut into shards: nothing is to be joined."""
        with self._table(self._layout.exploit_logprob_file(name)) as table:
            for lines in (block for specs in kinds for block in self._blocks(specs)):
                rows = [json.loads(line) for line in bytes(lines).splitlines()]
                self.report.n_errors += sum(ERROR_KEY in row for row in rows)
                table.write(pa.py_buffer(lines), len(rows))
        self.report.n_exploit_logprob += self._count(table)

    def _write_scores(
        self, specs: Sequence[JobSpec], name: str, outcomes: KnownOutcomes, references: References
    ) -> None:
        """Write a checkpoint's scores, and log Q(z) - log P(z) for every prefill scored under both models."""
        with (
            self._tables(lambda level: self._layout.logprob_file(name, int(level))) as tables,
            self._tables(lambda level: self._layout.kl_file(name, int(level))) as kl,
        ):
            for level, scores in self._scores(specs):
                told = outcomes.of(level, scores)
                columns = _write(tables[level], scores, told)
                ref_sums, ref_texts = references.of(scores)
                twice = np.flatnonzero(np.isfinite(ref_sums - scores.sums))
                if not len(twice):
                    continue
                if len(twice) < scores.n_rows:
                    scores, told, ref_texts = scores.take(twice), told.take(twice), ref_texts.take(twice)
                    columns, ref_sums = score_columns(scores, told), ref_sums[twice]
                differing = divergences(scores, ref_sums, ref_texts)
                kl[level].write(kl_lines(scores, told, differing), scores.n_rows)
                kl[level].columns.add(kl_columns(columns, differing))
        self.report.n_logprob += sum(map(self._count, tables.values()))
        self.report.n_kl += sum(map(self._count, kl.values()))

    def _count(self, table: Table) -> int:
        self.report.files += table.n_rows > 0
        return table.n_rows


def _write(table: Table, scores: Scores, outcomes: pa.BinaryArray) -> pa.Table | None:
    """Returns the columns."""
    table.write(scores.lines(outcomes), scores.n_rows)
    columns = score_columns(scores, outcomes)
    table.columns.add(columns)
    return columns
