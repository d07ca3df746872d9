"""Samples rows of a run as a rescore judges them: checked, with their code and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.answers.extract import Extraction, extract, status_of
from foreshock.jobs.answers.text_to_read import stored_text_to_read
from foreshock.jobs.engines.base import FinishReason
from foreshock.jobs.prefill import Channel
from foreshock.jobs.records.jsonl import read_jsonl
from foreshock.jobs.records.rows import ERROR_KEY, Row, error_of
from foreshock.jobs.records.verdicts import CodeStatus
from foreshock.jobs.verify.problem import Problem

_VERIFICATION = "verification:"
"""Errors that a rescore may settle begin so; rows with any other were never an attempt."""
_TEXTS = ("reasoning", "prefill_reasoning", "prefill_channel", "finish_reason", "code", "code_status", ERROR_KEY)
_FLAGS = ("secure_pass", "insecure_pass", "exploit_success")
_WORDS: Mapping[str, Collection[str]] = {
    "prefill_channel": tuple(one.value for one in Channel),
    "finish_reason": tuple(one.value for one in FinishReason),
    "code_status": tuple(one.value for one in CodeStatus),
}


def not_generated(row: Row) -> bool:
    """Whether the row's error is another one than its verification's, so that there is no attempt to judge."""
    error = error_of(row)
    return error is not None and not error.startswith(_VERIFICATION)


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Reads rows as they are to be judged.

    re_extract: the code is taken out of the stored responses, and the stored code and its status are not read.
    """

    problems: Mapping[str, Problem]
    re_extract: bool

    def of_file(self, path: Path) -> Iterator[tuple[Row, Row]]:
        """(row as stored, row with its code and the code's status); a failed generation or unknown task as it is.

        Raises InputError naming file, line and key for a value that is not what the key holds.
        """
        for number, stored in read_jsonl(path):
            self._require(stored, path, number)
            yield stored, self._prepared(stored)

    def _prepared(self, row: Row) -> Row:
        problem = self.problems.get(row["task_id"])
        if not_generated(row) or problem is None:
            return row
        read = _read_again if self.re_extract else _with_status
        return read(row, problem.function_name)

    def _require(self, row: Row, path: Path, number: int) -> None:
        needed = ("task_id", "attempt_idx", "response" if self.re_extract else "code")
        missing = [key for key in needed if key not in row]
        if missing:
            fix = None if self.re_extract or "response" not in row else "--re-extract takes it out of the response"
            raise InputError(
                f"row lacks {', '.join(missing)}; needed: {', '.join(needed)}; found: {', '.join(row)}",
                path=path,
                line=number,
                fix=fix,
            )
        unread = ("code", "code_status") if self.re_extract else ()
        said = next((_complaint(row, key) for key in _CHECKED if key not in unread and _complaint(row, key)), None)
        if said is None and self.re_extract and not isinstance(row["response"], str) and not not_generated(row):
            said = _is("response", row["response"], "text")
        if said is not None:
            raise InputError(said, path=path, line=number)


_CHECKED = ("task_id", "attempt_idx", *_TEXTS, *_FLAGS)


def _complaint(row: Row, key: str) -> str | None:
    value = row.get(key)
    if key == "task_id":
        return None if isinstance(value, str) else _is(key, value, "text, or a whole number")
    if key == "attempt_idx":
        return None if isinstance(value, int) and not isinstance(value, bool) else _is(key, value, "a whole number")
    if value is None:
        return None
    if key in _FLAGS:
        return None if isinstance(value, bool) else _is(key, value, "true, false or null")
    words = _WORDS.get(key)
    if words is not None:
        return None if isinstance(value, str) and value in words else _is(key, value, f"{', '.join(words)} or null")
    return None if isinstance(value, str) else _is(key, value, "text or null")


def _is(key: str, value: Any, valid: str) -> str:
    return f"{key} is {str(value)[:60]!r} ({type(value).__name__}); valid: {valid}"


def _read_again(row: Row, name: str) -> Row:
    """The row with the code that its stored response holds now."""
    prefill = row.get("prefill_reasoning") or ""
    if row.get("prefill_channel") == Channel.ANSWER:
        text: str | None = prefill + row["response"]
    else:
        text = stored_text_to_read(row["response"], row.get("reasoning") or "", prefill)
    found = extract(text, name).ended_by(row.get("finish_reason"))
    return row | {"code": found.code, "code_status": found.status.value}


def _with_status(row: Row, name: str) -> Row:
    """The row with the status of its stored code, which older rows lack and which foreign rows may deny."""
    code, status = row.get("code"), row.get("code_status")
    if status == CodeStatus.TRUNCATED or (code is None and status == CodeStatus.NO_ANSWER):
        return row
    found = Extraction(code, CodeStatus.NO_CODE if code is None else status_of(code, name))
    return row | {"code_status": found.ended_by(row.get("finish_reason")).status.value}
