"""Prefill sources out of donor samples.

Two files are written from the same samples, one with exploit successes only and one with every verified trace,
because the importance weights of the two differ (docs/methods.md) and a reader must not have to guess which it holds.
Only level-0 samples are accepted: a trace that was itself prefilled is no draw from the donor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_jsonl

_KEYS = ("task_id", "exploit_type", "reasoning", "exploit_success", "model_id", "attempt_idx")


@dataclass(frozen=True, slots=True)
class PrefillSources:
    """The two files and what went into them; `n_tasks_without_success` tasks have no conditioned trace."""

    conditioned: Path
    unconditioned: Path
    n_conditioned: int
    n_unconditioned: int
    n_without_verdict: int
    n_without_reasoning: int
    n_tasks: int
    n_tasks_without_success: int


def write_prefill_sources(
    samples: Iterable[Mapping[str, Any]], conditioned: Path, unconditioned: Path
) -> PrefillSources:
    """Write the exploit successes to `conditioned` and every trace to `unconditioned`, atomically.

    `samples` are eval rows of the donor at level 0. Rows without a verdict or without reasoning are left out and
    counted. Order: task_id, then attempt_idx, so the files do not depend on the order of the samples. Raises
    InputError for a prefilled row, a repeated (task_id, attempt_idx), and when no exploit success is left.
    """
    rows: list[dict[str, Any]] = []
    without_verdict = without_reasoning = 0
    for sample in samples:
        if sample.get("prefill_tokens"):
            raise InputError(
                f"donor sample of {sample['task_id']} is prefilled with {sample['prefill_tokens']} words",
                fix="give level-0 samples only",
            )
        if sample.get("error") or sample.get("exploit_success") is None:
            without_verdict += 1
        elif not (sample.get("reasoning") or "").strip():
            without_reasoning += 1
        else:
            rows.append({key: sample.get(key) for key in _KEYS})
    rows.sort(key=lambda row: (row["task_id"], row["attempt_idx"]))
    _refuse_repeats(rows)
    successes = [row for row in rows if row["exploit_success"]]
    if not successes:
        raise InputError(
            f"none of {len(rows)} donor samples exploits its verifier, so there is nothing to prefill with",
            fix="sample more, or use a later checkpoint as donor",
        )
    tasks = {row["task_id"] for row in rows}
    sources = PrefillSources(
        conditioned=conditioned,
        unconditioned=unconditioned,
        n_conditioned=len(successes),
        n_unconditioned=len(rows),
        n_without_verdict=without_verdict,
        n_without_reasoning=without_reasoning,
        n_tasks=len(tasks),
        n_tasks_without_success=len(tasks - {row["task_id"] for row in successes}),
    )
    write_jsonl(conditioned, successes)
    write_jsonl(unconditioned, rows)
    return sources


def _refuse_repeats(rows: Iterable[Mapping[str, Any]]) -> None:
    counts = Counter((row["task_id"], row["attempt_idx"]) for row in rows)
    for (task_id, attempt), count in counts.items():
        if count > 1:
            raise InputError(
                f"{count} donor samples are attempt {attempt} of {task_id}",
                fix="give each sample of a task its own attempt_idx",
            )
