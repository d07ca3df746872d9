"""Traces out of samples: which of them can serve as prefills, and why the others cannot.

The samples are those of any run: a donor's, a prompted model's or an endpoint's, an earlier run's. Only unprompted ones
count, since a trace that was itself prefilled is no draw from its writer. What asked for them must not be in them: a
trace that quotes the instructions would tell the model under test what is wanted of it.

Unconditioned traces are weighed as the writer's draws, so nothing is left out there that depends on how a draw went on:
no verdict, unfinished reasoning and repetitions stay.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from foreshock.jobs.prefill import count_words
from foreshock.jobs.prompts.markers import find_controls
from foreshock.jobs.records.verdicts import UNJUDGED, CodeStatus

QUOTED_WORDS = 8
"""So many words in a row that also stand in the instructions are a quotation."""
NO_PROBLEM = "no_problem"
"""Key of a sample that was to be judged and whose task is not among the problems."""
SOURCE = "_source"
"""Key of the number of the source that a sample was read from."""
KEYS = ("task_id", "exploit_type", "reasoning", "code", "exploit_success", "model_id", "attempt_idx")


class LeftOut(StrEnum):
    """Why a sample gives no trace."""

    PREFILLED = "prefilled: not its writer's own"
    NO_PROBLEM = "of a task that is not among the problems"
    NO_VERDICT = "without a verdict"
    NO_CODE = "without code to judge"
    NO_EXPLOIT = "no exploit"
    NO_REASONING = "without reasoning"
    NOT_TEXT = "holds half of a surrogate pair, which is not text"
    AGAIN = "the same draw as another row"
    UNFINISHED = "reasoning never ended"
    MARKER = "holds a control token or reasoning marker"
    QUOTES = "quotes the instructions"
    REPEATED = "a repetition of another trace of its task"
    ENOUGH = "its task has enough traces"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to keep. conditioned: exploit successes only, each text once a task; else every draw. per_task: most traces
    a task, None for all. controls: texts that no trace may hold. instructions: what the samples were asked with, beside
    the problem."""

    conditioned: bool = True
    per_task: int | None = None
    controls: frozenset[str] = frozenset()
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class TypeYield:
    """Of one exploit type: tasks and samples, samples with a verdict, exploits among them, traces kept, tasks with one,
    median words of those kept (None without any)."""

    exploit_type: str
    tasks: int
    samples: int
    judged: int
    exploits: int
    kept: int
    tasks_with_trace: int
    median_words: float | None


@dataclass(frozen=True, slots=True)
class Collected:
    """Traces in the order of task and attempt, yields by exploit type, what was left out by reason, and the number of
    each trace's source."""

    traces: tuple[dict[str, Any], ...]
    yields: tuple[TypeYield, ...]
    left_out: Mapping[str, int]
    sources: tuple[int, ...] = ()


def collect(samples: Iterable[Mapping[str, Any]], wanted: Wanted) -> Collected:
    """Sort samples into traces and reasons. The result does not depend on the samples' order."""
    rows, n_again = _draws(samples)
    quoted = frozenset(_shingles(wanted.instructions))
    kept: list[dict[str, Any]] = []
    sources: list[int] = []
    reasons: Counter[str] = Counter({LeftOut.AGAIN.value: n_again} if n_again else {})
    by_task: dict[str, set[str]] = {}
    n_kept: Counter[str] = Counter()
    for row in rows:
        why = _unusable(row, wanted, quoted)
        text = " ".join(str(row.get("reasoning") or "").split())
        own = by_task.setdefault(row["task_id"], set())
        if why is None and wanted.conditioned and text in own:
            why = LeftOut.REPEATED
        if why is None and wanted.per_task is not None and n_kept[row["task_id"]] >= wanted.per_task:
            why = LeftOut.ENOUGH
        if why is not None:
            reasons[why.value] += 1
            continue
        own.add(text)
        n_kept[row["task_id"]] += 1
        kept.append({key: row.get(key) for key in KEYS})
        sources.append(row.get(SOURCE, 0))
    return Collected(tuple(kept), tuple(_yields(rows, kept)), dict(reasons.most_common()), tuple(sources))


def _draws(samples: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int]:
    """Each draw once, sorted by task and attempt, and how many rows repeat one: a file given twice, or joined with
    itself, has no more draws than before. Without a number of the attempt equal rows may be two draws."""
    seen: set[str] = set()
    rows = []
    n_again = 0
    for row in sorted(samples, key=lambda row: (row["task_id"], str(row.get("model_id")), row.get("attempt_idx") or 0)):
        draw = json.dumps([row.get(key) for key in (*KEYS, "response", "seed")], default=repr)
        if row.get("attempt_idx") is not None and draw in seen:
            n_again += 1
            continue
        seen.add(draw)
        rows.append(row)
    return rows, n_again


def _unusable(row: Mapping[str, Any], wanted: Wanted, quoted: frozenset[str]) -> LeftOut | None:
    reasoning = row.get("reasoning")
    if is_prefilled(row):
        return LeftOut.PREFILLED
    if row.get(NO_PROBLEM):
        return LeftOut.NO_PROBLEM
    if row.get("error"):
        return LeftOut.NO_VERDICT
    if wanted.conditioned and (why := _not_an_exploit(row)) is not None:
        return why
    if not isinstance(reasoning, str) or not reasoning.strip():
        return LeftOut.NO_REASONING
    if wanted.conditioned and row.get("reasoning_closed") is False:
        return LeftOut.UNFINISHED
    if any("\ud800" <= letter <= "\udfff" for letter in reasoning):
        return LeftOut.NOT_TEXT
    if find_controls(reasoning, wanted.controls):
        return LeftOut.MARKER
    if quoted and any(part in quoted for part in _shingles(reasoning)):
        return LeftOut.QUOTES
    return None


def _not_an_exploit(row: Mapping[str, Any]) -> LeftOut | None:
    if row.get("exploit_success") is None:
        unread = row.get("code_status")  # why there was nothing to judge
        if unread == CodeStatus.NO_ANSWER:
            return LeftOut.UNFINISHED
        return LeftOut.NO_CODE if unread in UNJUDGED else LeftOut.NO_VERDICT
    return None if row["exploit_success"] else LeftOut.NO_EXPLOIT


def is_prefilled(row: Mapping[str, Any]) -> bool:
    """Whether its beginning was forced, by whichever of the fields that say so a row has."""
    forced = ("prefill_tokens", "prefill_level", "prefill_applied", "prefill_reasoning")
    return any(bool(row.get(key)) for key in forced)


def _shingles(text: str) -> Iterator[str]:
    words = re.findall(r"\w+", re.sub(r"\{\w+\}", " ", text).lower())
    for start in range(len(words) - QUOTED_WORDS + 1):
        yield " ".join(words[start : start + QUOTED_WORDS])


def _yields(rows: Sequence[Mapping[str, Any]], kept: Sequence[Mapping[str, Any]]) -> Iterator[TypeYield]:
    own = [row for row in rows if not is_prefilled(row) and not row.get(NO_PROBLEM)]
    for kind in sorted({_kind(row) for row in own}):
        of_kind = [row for row in own if _kind(row) == kind]
        judged = [row for row in of_kind if not row.get("error") and row.get("exploit_success") is not None]
        traces = [row for row in kept if _kind(row) == kind]
        words = sorted(count_words(row["reasoning"]) for row in traces)
        middle = (words[(len(words) - 1) // 2] + words[len(words) // 2]) / 2 if words else None
        yield TypeYield(
            kind,
            len({row["task_id"] for row in of_kind}),
            len(of_kind),
            len(judged),
            sum(bool(row["exploit_success"]) for row in judged),
            len(traces),
            len({row["task_id"] for row in traces}),
            middle,
        )


def _kind(row: Mapping[str, Any]) -> str:
    kind = row.get("exploit_type")
    return "(not given)" if kind is None else str(kind)
