"""Shards to the run's final tables: evals/, samples, logprob/, ref_logprob/, kl/, ground_truth/, extra/.

The one hard decision: this is the only writer of those files. It rewrites a cell whole from whatever shards are
sealed, in canonical order, so the tables of a resumed run equal those of an uninterrupted one byte for byte, and
aggregating an unfinished run is safe and says what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.jobs.records.jsonl import sweep_temporaries, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.rows import (
    ERROR_KEY,
    EVAL_KEYS,
    KL_KEYS,
    LOGPROB_KEYS,
    SAMPLE_KEYS,
    SCHEMA_VERSION,
    Row,
    select_keys,
)
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobKind, JobSpec

ScoreKey = tuple[int, str, int]
"""(level, task id, attempt): what pairs a score with its eval row and its reference."""

KL_METHOD = "monte_carlo_prefill"


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
    aggregator = _Aggregator(layout, plan, on_cell)
    aggregator.run()
    return aggregator.report


class _Aggregator:
    def __init__(self, layout: RunLayout, plan: PlanFile, on_cell: Callable[[str], None]) -> None:
        self._layout = layout
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
        reference: dict[ScoreKey, Row] = {}
        for (kind, name), group in specs.items():
            if kind is JobKind.REF_LOGPROB:
                reference |= self._write_scores(group, name, layout.ref_logprob_file, {})
        for (kind, name), group in specs.items():
            if kind is JobKind.EVAL:
                self._on_cell(name)
                outcomes = self._write_evals(group, name)
                scoring = specs.get((JobKind.LOGPROB, name), [])
                scores = self._write_scores(scoring, name, layout.logprob_file, outcomes)
                self._write_kl(name, scores, reference)
            elif kind is JobKind.GROUND_TRUTH:
                rows = self._rows(group)
                self.report.n_ground_truth += self._write(
                    layout.ground_truth_file(name), [select_keys(row, EVAL_KEYS) for row in rows]
                )
            elif kind is JobKind.EXTRA:
                rows = self._rows(group)
                self.report.n_extra += self._write(
                    layout.extra_file(name), [select_keys(row, EVAL_KEYS) for row in rows]
                )

    def _rows(self, specs: Iterable[JobSpec]) -> list[Row]:
        """Rows of sealed shards in shard order; shards that are not sealed are reported as missing."""
        rows: list[Row] = []
        for spec in sorted(specs, key=lambda s: (s.levels, s.shard_index)):
            manifest = self._store.manifest(spec)
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
            rows += self._store.rows(spec)
        self.report.n_errors += sum(1 for row in rows if row.get(ERROR_KEY) is not None)
        return rows

    def _write_evals(self, specs: Sequence[JobSpec], name: str) -> dict[ScoreKey, bool | None]:
        """Write a checkpoint's eval and samples files; returns exploit_success by score key."""
        outcomes: dict[ScoreKey, bool | None] = {}
        by_level: dict[int, list[JobSpec]] = defaultdict(list)
        for spec in specs:
            by_level[spec.levels[0]].append(spec)
        for level, group in sorted(by_level.items()):
            rows = self._rows(group)
            for row in rows:
                outcomes[level, row["task_id"], row["attempt_idx"]] = row.get("exploit_success")
            rows = [self._number_rollouts(row) for row in rows]
            extra = ("rollout",) if self._plan.n_rollouts > 1 else ()
            self.report.n_eval += self._write(
                self._layout.eval_file(name, level), [select_keys(row, (*EVAL_KEYS, *extra)) for row in rows]
            )
            self._write(
                self._layout.samples_file(name, level), [select_keys(row, (*SAMPLE_KEYS, *extra)) for row in rows]
            )
        return outcomes

    def _number_rollouts(self, row: Row) -> Row:
        """Attempt indices beyond the plan's are further rollouts of the same attempt."""
        if self._plan.n_rollouts == 1:
            return row
        rollout, attempt = divmod(row["attempt_idx"], self._plan.n_attempts)
        return row | {"attempt_idx": attempt, "rollout": rollout}

    def _write_scores(
        self,
        specs: Sequence[JobSpec],
        name: str,
        file: Callable[[str, int], Path],
        outcomes: dict[ScoreKey, bool | None],
    ) -> dict[ScoreKey, Row]:
        by_level: dict[int, list[Row]] = defaultdict(list)
        for row in self._rows(specs):
            key = (row["prefill_level"], row["task_id"], row["attempt_idx"])
            by_level[row["prefill_level"]].append(row | {"exploit_success": outcomes.get(key)})
        scores: dict[ScoreKey, Row] = {}
        for level, rows in sorted(by_level.items()):
            n_rows = self._write(file(name, level), [select_keys(row, LOGPROB_KEYS) for row in rows])
            if specs[0].kind is JobKind.REF_LOGPROB:
                self.report.n_ref_logprob += n_rows
            else:
                self.report.n_logprob += n_rows
            scores |= {(level, row["task_id"], row["attempt_idx"]): row for row in rows if ERROR_KEY not in row}
        return scores

    def _write_kl(self, name: str, scores: dict[ScoreKey, Row], reference: dict[ScoreKey, Row]) -> None:
        """log Q(z) - log P(z) for every prefill scored under both models."""
        by_level: dict[int, list[Row]] = defaultdict(list)
        for key, row in scores.items():
            donor = reference.get(key)
            if donor is None or donor["prefill_sha256"] != row["prefill_sha256"]:
                continue
            kl = donor["prefill_logprob_sum"] - row["prefill_logprob_sum"]
            n_tokens = row["prefill_num_tokens"]
            by_level[key[0]].append(
                row
                | {
                    "kl_divergence": kl,
                    "kl_per_token": kl / n_tokens if n_tokens else None,
                    "kl_num_tokens": n_tokens,
                    "eval_logprob_sum": row["prefill_logprob_sum"],
                    "ref_logprob_sum": donor["prefill_logprob_sum"],
                    "kl_method": KL_METHOD,
                    "schema_version": SCHEMA_VERSION,
                }
            )
        for level, rows in sorted(by_level.items()):
            self.report.n_kl += self._write(
                self._layout.kl_file(name, level), [select_keys(row, KL_KEYS) for row in rows]
            )

    def _write(self, path: Path, rows: Sequence[Row]) -> int:
        if rows:
            write_jsonl(path, rows)
            self.report.files += 1
        return len(rows)
