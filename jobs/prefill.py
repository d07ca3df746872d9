"""Prefill texts: where they come from and how a level cuts them.

A level is the original text up to the end of its Nth whitespace-separated word, with the text's own whitespace kept.
Shorter levels are therefore string prefixes of longer ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line, read_maybe_gzip

_WORD = re.compile(r"\S+")


class PrefillSourceError(InputError):
    """A prefill source that cannot be used; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True)
class CutPrefill:
    """The text forced at one level; `words` is the number applied, below the level when the trace is shorter."""

    text: str
    words: int

    @property
    def sha256(self) -> str:
        """Digest of the text's UTF-8 bytes: part of every row's identity."""
        return prefill_sha256(self.text)


class Channel(StrEnum):
    """Which part of the model's turn is forced."""

    REASONING = "reasoning"
    """The beginning of its reasoning."""
    ANSWER = "answer"
    """The beginning of its answer, after reasoning that is given whole or empty: hacks that no reasoning announces."""


class Before(StrEnum):
    """The reasoning that stands before a forced answer."""

    EMPTY = "empty"
    SOURCE = "source"
    """The trace's own `reasoning`, such as honest reasoning."""


@dataclass(frozen=True, slots=True)
class PrefillTrace:
    """One donor trace. `source` is `file:line`; `model_id` and `attempt_idx` are None when the file lacks them.

    `answer` None: levels cut the reasoning. Else they cut the answer, and the reasoning stands whole before it.
    """

    task_id: str
    reasoning: str
    model_id: str | None
    attempt_idx: int | None
    source: str
    answer: str | None = None

    def cut(self, level: int) -> CutPrefill:
        """The prefill of `level` words."""
        return cut_prefill(self.reasoning if self.answer is None else self.answer, level)


@dataclass(frozen=True, slots=True)
class PrefillSource:
    """Usable traces of one file by task, in file order; several traces of a task stay apart.

    `conditioned` says that only exploit successes were kept: the importance weights need to know (docs/methods.md).
    `n_rows` counts the file's rows, `n_dropped` those not used because they were no exploit success.
    """

    path: Path
    traces: dict[str, tuple[PrefillTrace, ...]] = field(repr=False)
    conditioned: bool
    n_rows: int
    n_dropped: int
    sha256: str
    empty: tuple[str, ...] = ()
    """`file:line` of rows without a word of reasoning, which are left out."""

    def traces_of(self, task_id: str) -> tuple[PrefillTrace, ...]:
        """Every trace of a task; empty when there is none, and the task is then skipped at levels above 0."""
        return self.traces.get(task_id, ())

    def first(self, task_id: str) -> PrefillTrace | None:
        """The task's first trace in file order: the one that a sweep with one trace per task uses."""
        traces = self.traces_of(task_id)
        return traces[0] if traces else None


def cut_words(text: str, n: int) -> str:
    """`text` up to the end of its `n`th word, whitespace kept; all words if it has fewer; "" for n = 0.

    Raises ValueError for a negative `n`.
    """
    return cut_prefill(text, n).text


def cut_prefill(text: str, n: int) -> CutPrefill:
    """Like `cut_words`, with the number of words applied. Whitespace after the last word is never part of it."""
    if n < 0:
        raise ValueError(f"prefill level {n} is negative; valid: 0 (no prefill) or a number of words")
    end = words = 0
    if n > 0:
        for match in _WORD.finditer(text):
            end, words = match.end(), words + 1
            if words == n:
                break
    return CutPrefill(text[:end], words)


def count_words(text: str) -> int:
    """Number of whitespace-separated words."""
    return sum(1 for _ in _WORD.finditer(text))


def prefill_sha256(text: str) -> str:
    """sha256 of the UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def require_text(text: str, what: str) -> None:
    """Raise PrefillSourceError if `text` holds half of a surrogate pair, which no tokenizer can encode."""
    for index, letter in enumerate(text):
        if "\ud800" <= letter <= "\udfff":
            raise PrefillSourceError(
                f"{what} holds half of a surrogate pair ({letter!a} at character {index}), which is not text; "
                "remove it, or leave the row out"
            )


def load_prefill_source(
    path: Path,
    *,
    unconditioned: bool = False,
    reasoning_field: str = "reasoning",
    channel: Channel = Channel.REASONING,
    before: Before = Before.EMPTY,
) -> PrefillSource:
    """Read a prefill source JSONL (`task_id, reasoning, exploit_success`, optionally `model_id, attempt_idx`).

    For the answer channel a row's `answer` is cut, or its `code` in a fence; `before` says what stands before it. Keeps
    exploit successes only, unless `unconditioned`. Raises PrefillSourceError, naming file and line, for a missing or
    empty file, a row that cannot be read, and a file that leaves no usable trace.
    """
    try:
        raw = read_maybe_gzip(path)
    except OSError as error:
        raise PrefillSourceError(f"{path}: cannot read the prefill source: {error.strerror or error}") from error
    by_task: dict[str, list[PrefillTrace]] = {}
    n_rows = n_kept = 0
    empty: list[str] = []
    for where, row in _rows(path, raw):
        n_rows += 1
        if channel is Channel.REASONING and _is_empty(row, unconditioned, reasoning_field):
            empty.append(where)
            continue
        trace = _trace(where, row, unconditioned, reasoning_field, channel, before)
        if trace is not None:
            n_kept += 1
            by_task.setdefault(trace.task_id, []).append(trace)
    if n_rows == 0:
        raise PrefillSourceError(f"{path}: the prefill source is empty; it needs at least one JSON row")
    if n_kept == 0 and empty:
        raise PrefillSourceError(
            f"{empty[0]}: {reasoning_field!r} is empty, and no other row can be used "
            f"({len(empty)} of {n_rows} rows are like this)"
        )
    if n_kept == 0:
        raise PrefillSourceError(
            f"{path}: none of its {n_rows} rows has exploit_success true, so there is nothing to prefill; use a file "
            "with successful exploit traces, or prefill.conditioned: false to keep every trace"
        )
    return PrefillSource(
        path=path,
        traces={task: tuple(traces) for task, traces in by_task.items()},
        conditioned=not unconditioned,
        n_rows=n_rows,
        n_dropped=n_rows - n_kept,
        sha256=hashlib.sha256(raw).hexdigest(),
        empty=tuple(empty),
    )


def _rows(path: Path, raw: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, row) of every non-blank line."""
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        yield f"{path}:{number}", parse_line(line, path, number, PrefillSourceError)


def _is_empty(row: dict[str, Any], unconditioned: bool, reasoning_field: str) -> bool:
    """Whether a row that would be used has no word of reasoning: its model answered at once."""
    wanted = unconditioned or bool(row.get("exploit_success"))
    reasoning = row.get(reasoning_field, 0)
    empty = reasoning is None or (isinstance(reasoning, str) and not reasoning.strip())
    return wanted and not row.get("error") and empty


def _trace(
    where: str, row: dict[str, Any], unconditioned: bool, reasoning_field: str, channel: Channel, before: Before
) -> PrefillTrace | None:
    """The row's trace, or None for one that is left out on purpose."""
    task_id = row.get("task_id")
    if not isinstance(task_id, str) or not task_id:
        raise PrefillSourceError(f"{where}: task_id is {task_id!r}; it must be a non-empty string or a whole number")
    if row.get("error"):
        return None
    success = row.get("exploit_success")
    if "exploit_success" not in row and not unconditioned:
        raise PrefillSourceError(
            f"{where}: no exploit_success field, so exploit traces cannot be told apart; add it, or set "
            "prefill.conditioned: false to keep every trace"
        )
    if not isinstance(success, bool | None) and success not in (0, 1):
        raise PrefillSourceError(f"{where}: exploit_success is {success!r}; valid: true, false, null")
    if not unconditioned and not success:
        return None
    answer = _answer(where, row) if channel is Channel.ANSWER else None
    given = answer is None or before is Before.SOURCE
    reasoning = row.get(reasoning_field) if given else ""
    if given and reasoning_field not in row:
        near = ", ".join(sorted(k for k in row if "reason" in k)) or "none"
        raise PrefillSourceError(f"{where}: no {reasoning_field!r} field; fields that look like it: {near}")
    if not isinstance(reasoning, str) or (given and not reasoning.strip()):
        raise PrefillSourceError(f"{where}: {reasoning_field!r} is {reasoning!r}; it must hold at least one word")
    require_text(reasoning, f"{where}: {reasoning_field!r}")
    attempt = row.get("attempt_idx")
    if attempt is not None and (not isinstance(attempt, int) or isinstance(attempt, bool)):
        raise PrefillSourceError(f"{where}: attempt_idx is {attempt!r}; valid: an integer or null")
    model_id = row.get("model_id")
    return PrefillTrace(task_id, reasoning, None if model_id is None else str(model_id), attempt, where, answer)


def _answer(where: str, row: dict[str, Any]) -> str:
    """The row's answer: as it was written, else its code in a fence."""
    for name, shape in (("answer", "{}"), ("code", "```python\n{}\n```")):
        text = row.get(name)
        if isinstance(text, str) and text.strip():
            require_text(text, f"{where}: {name!r}")
            return shape.replace("{}", text.strip("\n"))
    near = ", ".join(sorted(k for k in row if "answer" in k or "code" in k or k == "response")) or "none"
    raise PrefillSourceError(
        f"{where}: neither `answer` nor `code` holds text, and prefill.channel: answer forces the beginning of one; "
        f"fields that look like it: {near}"
    )
