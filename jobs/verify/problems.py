"""Problem files: JSONL and parquet in djinn's schema, their test cases, and the digest that a JobSpec records.

A field that cannot be read stops loading, with file and line. djinn turns unreadable test cases into an empty list,
which a verifier then passes.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import parse_line, read_maybe_gzip
from foreshock.jobs.verify import plain
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.problem import Problem

_FIELDS = {field.name for field in fields(Problem)} - {"extra"}
_REQUIRED = ("id", "description", "function_name", "test_cases", "ground_truth", "exploit_type")
_OTHER_NAMES = {
    "id": ("task_id", "problem_id", "question_id"),
    "description": ("prompt", "question", "instruction"),
    "function_name": ("entry_point",),
    "test_cases": ("tests", "test_list"),
    "ground_truth": ("canonical_solution", "solution"),
    "exploit_type": ("hack_type",),
}
"""What other sets of problems call these fields: hints, never read in their place."""
_TEXTS = ("id", "description", "function_name", "ground_truth", "exploit", "exploit_type")
_CASE_FIELDS = ("test_cases", "secure_test_cases", "insecure_test_cases")
_CASE_FORM = "[input, expected] pairs, as a list, a Python literal or JSON text"
_STATUSES = ("passed", "failed", "timed_out", "crashed")
_BUILTIN_FORM = "parameters"
"""Built-in problems name their parameters in `extra`, and their inputs are lists of arguments."""


class ProblemError(InputError):
    """A problem that cannot be used; the message names the file and line, or the problem."""


def problem_from_row(row: dict[str, Any], where: str) -> Problem:
    """A Problem from a row of djinn's schema. Unknown fields go to `extra`; `where` names the row in errors."""
    missing = [name for name in _REQUIRED if row.get(name) in (None, "")]
    if missing:
        meant = [f"{theirs} as {own}" for own in missing for theirs in _OTHER_NAMES.get(own, ()) if row.get(theirs)]
        hint = f"; the row may mean {', '.join(meant)}: rename it there" if meant else ""
        raise ProblemError(f"{where}: no {', '.join(missing)}; needed: {', '.join(_REQUIRED)}{hint}")
    known: dict[str, Any] = dict.fromkeys(("exploit", "insecure_verifier_info", "exploit_explanation"), "")
    known |= {name: row[name] for name in _FIELDS if row.get(name) is not None}
    if isinstance(known["id"], int) and not isinstance(known["id"], bool):
        known["id"] = str(known["id"])  # as the task ids of traces are read
    for name in _TEXTS:
        if not isinstance(known[name], str):
            raise ProblemError(f"{where}: {name} is {type(known[name]).__name__}, must be text")
    _require_fields(row, known, where)
    extra = dict(row.get("extra") or {}) | {
        key: value for key, value in row.items() if key not in _FIELDS and key != "extra" and value is not None
    }
    problem = Problem(**known, extra=extra)
    try:
        ast.parse(problem.ground_truth)
    except (SyntaxError, ValueError) as error:
        raise ProblemError(f"{where}: ground_truth of {problem.id!r} is not Python: {error}") from None
    for name in _CASE_FIELDS:
        _require_cases(problem, name, where)
    return problem


def _require_fields(row: dict[str, Any], known: dict[str, Any], where: str) -> None:
    """Refuse fields that are there and not what they must be: none is read as something else."""
    extra = row.get("extra")
    if extra is not None and not isinstance(extra, dict):
        raise ProblemError(f"{where}: extra is {type(extra).__name__}, must be an object")
    if not isinstance(known.get("order_dependent", True), bool):
        raise ProblemError(f"{where}: order_dependent is {known['order_dependent']!r}, must be true or false")
    more = {**(extra or {}), **row}
    nulls = more.get("nulls")
    texts = nulls if isinstance(nulls, list) else [] if nulls is None else [nulls]
    if not all(isinstance(one, str) for one in texts):
        raise ProblemError(f"{where}: nulls must be wrong solutions, each as text; got {str(nulls)[:80]}")
    status = more.get("exploit_expected_status")
    if status is not None and status not in _STATUSES:
        raise ProblemError(f"{where}: exploit_expected_status is {status!r}; valid: {', '.join(_STATUSES)}")


def _require_cases(problem: Problem, name: str, where: str) -> None:
    """Refuse cases that cannot be read, whether or not others take precedence, and a verifier without any."""
    source = getattr(problem, name)
    if source is None:
        return
    try:
        cases = _cases(problem, source, name)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from None
    if not cases and (name == "insecure_test_cases" or name == _secure_field(problem)):
        rest = "" if name == "test_cases" else ", or leave the key out for the same cases as test_cases"
        raise ProblemError(f"{where}: {name} holds no cases, so nothing could be judged; valid: {_CASE_FORM}{rest}")


def load_problems(path: Path) -> list[Problem]:
    """Problems of a .jsonl or .parquet file, in its order. Raises ProblemError naming file and line."""
    if path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
        rows = _jsonl_rows(path)
    else:
        raise ProblemError(f"{path}: unknown kind of problem file {path.suffix!r}; valid: .jsonl, .jsonl.gz, .parquet")
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        problem = problem_from_row(row, where)
        if problem.id in seen:
            raise ProblemError(f"{where}: id {problem.id!r} was already used at {seen[problem.id]}")
        seen[problem.id] = where
        problems.append(problem)
    if not problems:
        raise ProblemError(f"{path}: no problems in the file")
    return problems


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        raw = read_maybe_gzip(path)
    except OSError as error:
        raise ProblemError(f"{path}: cannot be read: {error.strerror or error}") from None
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", parse_line(line, path, number, ProblemError)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: not a parquet file: {error}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}: row {number}", row


def problem_to_row(problem: Problem) -> dict[str, Any]:
    """Row of djinn's schema, its cases in djinn's form as a Python literal; the inverse of `problem_from_row`."""
    row = {name: getattr(problem, name) for name in sorted(_FIELDS)}
    for name in _CASE_FIELDS:
        if row[name] is not None:
            row[name] = repr(djinn_pairs(problem, row[name], name))
    return row | {key: value for key, value in problem.extra.items() if key != _BUILTIN_FORM}


def secure_cases(problem: Problem) -> list[TestCase]:
    """Cases of the secure verifier. Raises ProblemError when they cannot be read."""
    name = _secure_field(problem)
    return _cases(problem, getattr(problem, name), name)


def insecure_cases(problem: Problem) -> list[TestCase]:
    """Cases of the insecure verifier; the secure ones when it has none of its own."""
    if problem.insecure_test_cases is None:
        return secure_cases(problem)
    return _cases(problem, problem.insecure_test_cases, "insecure_test_cases")


def secure_pairs(problem: Problem) -> list[tuple[Any, Any]]:
    """[input, expected] of the secure verifier, in djinn's form."""
    name = _secure_field(problem)
    return djinn_pairs(problem, getattr(problem, name), name)


def insecure_pairs(problem: Problem) -> list[tuple[Any, Any]]:
    """[input, expected] of the insecure verifier, in djinn's form."""
    if problem.insecure_test_cases is None:
        return secure_pairs(problem)
    return djinn_pairs(problem, problem.insecure_test_cases, "insecure_test_cases")


def _secure_field(problem: Problem) -> str:
    return "test_cases" if problem.secure_test_cases is None else "secure_test_cases"


def djinn_pairs(problem: Problem, source: Any, name: str) -> list[tuple[Any, Any]]:
    """[input, expected] with the input as djinn stores it: the argument itself, or a tuple of several."""
    pairs = raw_pairs(source, name)
    if _BUILTIN_FORM not in problem.extra:
        return pairs
    return [(given[0] if len(given) == 1 else tuple(given), expected) for given, expected in pairs]


def raw_pairs(source: Any, name: str) -> list[tuple[Any, Any]]:
    """(input, expected) pairs in any of djinn's forms: Python literal, JSON text, list of pairs."""
    value = source
    if isinstance(source, str):
        value = _literal(source, name)
    if not isinstance(value, list | tuple):
        raise ProblemError(f"{name} is {type(value).__name__}, must be a list of [input, expected] pairs")
    pairs = []
    for index, item in enumerate(value):
        if isinstance(item, dict) and "input" in item:
            expected = [item[key] for key in ("output", "expected", "expected_output") if key in item]
            item = (item["input"], *expected[:1])
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise ProblemError(f"{name}[{index}] is not an [input, expected] pair: {str(item)[:80]}")
        pairs.append((item[0], item[1]))
    return pairs


def _literal(text: str, name: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ProblemError(f"{name} is neither a Python literal nor JSON: {text[:80]!r}; valid: {_CASE_FORM}") from None


def _cases(problem: Problem, source: Any, name: str) -> list[TestCase]:
    """Cases whose data can cross the sandbox's border, and whose results can be compared."""
    given_apart = _BUILTIN_FORM in problem.extra
    cases = [
        TestCase(tuple(given) if given_apart else (given,), expected) for given, expected in raw_pairs(source, name)
    ]
    for index, case in enumerate(cases):
        for what, value in (("input", list(case.args)), ("expected value", case.expected)):
            try:
                plain.canonical(plain.encode(value))
            except plain.PlainError as error:
                reason = "an object, which equals nothing" if isinstance(error, plain.IncomparableError) else error
                raise ProblemError(
                    f"{name}[{index}]: the {what} {str(value)[:80]} cannot be compared: {reason}; valid: numbers, "
                    "text, bytes, bools, None, and lists, tuples, sets and dicts of them"
                ) from None
    return cases


def problem_digest(problem: Problem) -> str:
    """sha256 over every field, 64 hex digits: the same for every form of the same cases."""
    row: dict[str, Any] = {name: getattr(problem, name) for name in sorted(_FIELDS)}
    for name in _CASE_FIELDS:
        if row[name] is not None:
            cases = _cases(problem, row[name], name)
            row[name] = json.dumps([plain.encode([list(case.args), case.expected]) for case in cases])
    extra = {key: value for key, value in problem.extra.items() if key != _BUILTIN_FORM}
    text = json.dumps(row | {"extra": extra}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def problems_sha256(problems: Iterable[Problem]) -> str:
    """Digest of a set of problems, whatever their order."""
    return hashlib.sha256("".join(sorted(problem_digest(problem) for problem in problems)).encode()).hexdigest()
