"""Samples of a file of one's own, judged: what counts as an exploit is what the verifiers say, and not the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from foreshock.batch.traces.collect import NO_PROBLEM
from foreshock.errors import InputError
from foreshock.jobs.answers.extract import Extraction, extract, status_of
from foreshock.jobs.answers.text_to_read import stored_text_to_read
from foreshock.jobs.evaluate import verdict_fields
from foreshock.jobs.prompts.markers import TAG
from foreshock.jobs.records.verdicts import CodeStatus
from foreshock.jobs.verify.base import Submission, Verifier
from foreshock.jobs.verify.problem import Problem

Sample = dict[str, Any]


def judged(samples: Iterable[Sample], problems: Mapping[str, Problem], verifier: Verifier) -> list[Sample]:
    """The samples with `code`, `code_status` and verdicts of the verifier; those of other tasks have NO_PROBLEM.

    A sample's program is its `code`; without that, what its `answer` holds, or its `response` after the reasoning. What
    the sample says of its own success plays no part. Raises InputError where no task is among the problems, and where
    no sample has any of the three.
    """
    rows = [_read(sample, problems.get(sample["task_id"])) for sample in samples]
    if rows and all(NO_PROBLEM in row for row in rows):
        raise InputError(
            f"none of the samples' tasks is among the problems (samples have e.g. {rows[0]['task_id']!r}, the problems "
            f"e.g. {next(iter(problems), None)!r})"
        )
    known = [row for row in rows if NO_PROBLEM not in row]
    if known and not any(isinstance(row.get(key), str) for row in known for key in ("code", "answer", "response")):
        raise InputError("no sample has `code`, an `answer` or a `response`, so there is nothing to judge")
    todo = [row for row in known if row["code"] is not None]
    submissions = [Submission(n, problems[row["task_id"]], row["code"]) for n, row in enumerate(todo)]
    for number, verification in verifier.verify_many(submissions):
        todo[number].update(verdict_fields(verification))
    return rows


def _read(sample: Sample, problem: Problem | None) -> Sample:
    """The sample with its program and its program's status, and without any verdict."""
    row = {key: value for key, value in sample.items() if key != "error"} | {"exploit_success": None}
    if problem is None:
        return row | {NO_PROBLEM: True}
    code, answer, response = (row.get(key) for key in ("code", "answer", "response"))
    if isinstance(code, str):
        found = Extraction(code, status_of(code, problem.function_name))
    elif isinstance(answer, str):
        found = extract(answer, problem.function_name)
    elif isinstance(response, str):
        found = extract(_answer_in(response, (row.get("reasoning") or "").strip()), problem.function_name)
    else:
        found = Extraction(None, CodeStatus.NO_CODE)
    found = found.ended_by(row.get("finish_reason"))
    kept = found.code if found.status.judged else None
    return row | {"code": kept, "code_status": found.status.value, "exploit_type": problem.exploit_type}


def _answer_in(response: str, reasoning: str) -> str | None:
    """What follows the reasoning, of which programs are drafts, also where a response holds the tag that opens it."""
    at = response.find(reasoning)
    opened = at >= 0 and (not response[:at].strip() or TAG.fullmatch(response[:at].strip()))
    return stored_text_to_read(response[at:] if opened else response, reasoning, "")
