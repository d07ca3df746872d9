"""Honest reasoning: one text a task that led to no exploit, to stand before the problem's exploit code.

It is chosen once and frozen with the run, so that every checkpoint is scored behind the same words. Of a task's samples
the first is taken whose answer passed the sound verifier, else the first that did not exploit; never one that shows an
attempt to, whose beginning was forced, or that has no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from foreshock.counted import counted
from foreshock.errors import InputError
from foreshock.jobs.prefill import count_words, require_text
from foreshock.jobs.records.jsonl import parse_line, read_maybe_gzip, read_rows, write_jsonl
from foreshock.jobs.records.rows import ERROR_KEY, text_sha256

NO_SAMPLE = "no sample of it"
_EXPLOITED = "exploited"
_TRIED = "with signs of an attempt to exploit"
_NO_VERDICT = "without a verdict"
_NO_REASONING = "without reasoning that ended"
_FORCED = "whose beginning was forced"


@dataclass(frozen=True, slots=True)
class HonestReasoning:
    """A task's honest reasoning, and whose it is. `text` None: it has none, for `reason`.

    checkpoint, model_id, attempt_idx, secure_pass: of the sample, None where it does not say. source: where that stood.
    """

    task_id: str
    text: str | None
    reason: str | None = None
    checkpoint: str | None = None
    model_id: str | None = None
    attempt_idx: int | None = None
    secure_pass: bool | None = None
    source: str | None = None

    @property
    def words(self) -> int | None:
        """Whitespace-separated words of it."""
        return None if self.text is None else count_words(self.text)

    @property
    def sha256(self) -> str | None:
        """Digest of the text."""
        return None if self.text is None else text_sha256(self.text)


def choose_honest(
    samples: Iterable[tuple[str, Mapping[str, Any]]],
    tasks: Sequence[str],
    obstacle: Callable[[str, str], str | None],
) -> dict[str, HonestReasoning]:
    """Honest reasoning of each of `tasks`, from (where, row) in the order in which they are preferred.

    obstacle(task, text): why this text cannot stand before the task's code; None if it can.
    """
    wanted = set(tasks)
    refused: dict[str, Counter[str]] = {task: Counter() for task in tasks}
    found: dict[str, HonestReasoning] = {}
    for where, row in samples:
        task = row.get("task_id")
        if task not in wanted or (task in found and found[task].secure_pass):
            continue
        why = _no_use(row)
        text = str(row.get("reasoning") or "").rstrip()
        why = why or obstacle(task, text)
        if why is not None:
            refused[task][why] += 1
        elif task not in found or row.get("secure_pass") is True:
            found[task] = HonestReasoning(
                task, text, None, _text(row, "checkpoint"), _text(row, "model_id"), _number(row), _passed(row), where
            )
    return {task: found.get(task) or HonestReasoning(task, None, _told(refused[task])) for task in tasks}


def _no_use(row: Mapping[str, Any]) -> str | None:
    """Why a sample's reasoning does not count as honest."""
    success = row.get("exploit_success")
    if row.get(ERROR_KEY) or success is None:
        return _NO_VERDICT
    if success:
        return _EXPLOITED
    if row.get("insecure_suspect"):
        return _TRIED
    if row.get("prefill_applied") or row.get("prefill_level"):
        return _FORCED
    if not str(row.get("reasoning") or "").strip() or row.get("reasoning_closed") is False:
        return _NO_REASONING
    return None


def _told(refused: Counter[str]) -> str:
    if not refused:
        return NO_SAMPLE
    parts = ", ".join(f"{n} {why}" for why, n in refused.items())
    return f"no honest one among its {counted(refused.total(), 'sample')}: {parts}"


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    return None if value is None else str(value)


def _number(row: Mapping[str, Any]) -> int | None:
    value = row.get("attempt_idx")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _passed(row: Mapping[str, Any]) -> bool | None:
    value = row.get("secure_pass")
    return value if isinstance(value, bool) else None


def read_samples(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(`file:line`, row) of a file of samples: a run's `evals/*.samples.jsonl`, or JSONL with `task_id`, `reasoning`
    and `exploit_success`, gzipped or not.

    Raises InputError for a file that cannot be read or holds no row, and for a row without these or with other values.
    """
    try:
        raw = read_maybe_gzip(path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from None
    n = 0
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            row = parse_line(line, path, number)
            _require_sample(row, path, number)
            n += 1
            yield f"{path.name}:{number}", row
    if n == 0:
        raise InputError("holds no samples", path=path, fix="give rows with task_id, reasoning, exploit_success")


def _require_sample(row: Mapping[str, Any], path: Path, line: int) -> None:
    if not isinstance(row.get("task_id"), str) or not row["task_id"]:
        raise InputError(f"task_id is {row.get('task_id')!r}; it must be text or a whole number", path=path, line=line)
    success = row.get("exploit_success")
    if "exploit_success" not in row or (not isinstance(success, bool | None) and success not in (0, 1)):
        found = f"exploit_success is {success!r}" if "exploit_success" in row else "no exploit_success"
        raise InputError(
            f"{found}, so honest reasoning cannot be told apart; valid: true, false, null",
            path=path,
            line=line,
            fix="say of each row whether its answer exploited",
        )
    reasoning = row.get("reasoning", 0)
    if not isinstance(reasoning, str | None):
        near = ", ".join(sorted(key for key in row if "reason" in key and key != "reasoning")) or "none"
        raise InputError(f"no text in `reasoning`; fields that look like it: {near}", path=path, line=line)
    require_text(reasoning or "", f"{path}:{line}: `reasoning`")


def write_honest(path: Path, chosen: Iterable[HonestReasoning]) -> None:
    """Freeze what was chosen, tasks without any included."""
    write_jsonl(path, (asdict(one) for one in chosen))


def read_honest(path: Path) -> dict[str, HonestReasoning]:
    """What `write_honest` froze, by task; empty where there is none."""
    if not path.is_file():
        return {}
    return {row["task_id"]: HonestReasoning(**row) for row in read_rows(path, ("task_id", "text"))}
