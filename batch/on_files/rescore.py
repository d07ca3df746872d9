"""Verify a run's stored completions again, without generating anything.

The run itself is not touched. New rows go to `RUN/rescore/{verifier}/evals/`, in the layout of a run, with the
differences beside them, so old and new verdicts can be analysed side by side. Verdicts are kept in part files as they
come, keyed by task, problem and code, so an interrupted rescore goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from foreshock.durable import atomic_write_bytes, sweep_temporaries
from foreshock.errors import InputError
from foreshock.jobs.answers.extract import Extraction, extract, status_of
from foreshock.jobs.answers.text_to_read import stored_text_to_read
from foreshock.jobs.evaluate import verdict_fields
from foreshock.jobs.prefill import Channel
from foreshock.jobs.records.jsonl import encode_rows, read_jsonl, read_rows, write_json, write_jsonl
from foreshock.jobs.records.layout import CellFile, CellName, RunLayout
from foreshock.jobs.records.rows import ERROR_KEY, EVAL_FIELDS, EVAL_KEYS, Owner, Row, select_keys
from foreshock.jobs.records.table_archives import TableArchives, remove_replaced
from foreshock.jobs.records.table_files import has_table, is_archived
from foreshock.jobs.records.verdicts import UNJUDGED, CodeStatus
from foreshock.jobs.verify.base import Submission, Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_digest

_PART_ROWS = 500
_CELLS_TOGETHER = 400
"""Whose tables come into the same archives."""
_GENERATION = "generation:"
OnProgress = Callable[[int, int], None]
"""Called with (verdicts known, verdicts needed)."""


class _Key(NamedTuple):
    """What decides a verdict, besides the verifier."""

    task_id: str
    problem_sha256: str
    code_sha256: str


@dataclass(frozen=True, slots=True)
class Change:
    """One row whose verdicts differ; `old` and `new` are (secure_pass, insecure_pass), null when unknown."""

    checkpoint: str
    prefill_level: int
    task_id: str
    attempt_idx: int
    exploit_type: str | None
    old: tuple[bool | None, bool | None]
    new: tuple[bool | None, bool | None]
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class RescoreReport:
    """What a rescore found. Counts are rows, except `n_verified`: distinct (task, code) verified now.

    n_unjudged: no code to judge, so no verdict. n_code_changed: code that was read again differs from the stored code.
    """

    output: Path
    verifier: str
    n_rows: int
    n_verified: int
    n_reused: int
    n_errors: int
    n_not_generated: int
    n_unknown_tasks: int
    n_unjudged: int
    n_code_changed: int
    changes: tuple[Change, ...]
    exploits_before: int
    exploits_after: int
    unknown_tasks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As one JSON document; changes by kind only, the rows are in changes.jsonl."""
        kinds = Counter(f"{_pair(change.old)} -> {_pair(change.new)}" for change in self.changes)
        plain = {key: value for key, value in asdict(self).items() if key not in ("changes", "output")}
        return plain | {
            "output": str(self.output),
            "n_changed": len(self.changes),
            "changed": dict(sorted(kinds.items())),
        }


def _pair(pair: tuple[bool | None, bool | None]) -> str:
    names = {True: "pass", False: "fail", None: "none"}
    return f"secure {names[pair[0]]}, insecure {names[pair[1]]}"


@dataclass(slots=True)
class _Tally:
    rows: int = 0
    errors: int = 0
    not_generated: int = 0
    unjudged: int = 0
    code_changed: int = 0
    before: int = 0
    after: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)


class VerdictStore:
    """Verdict fields by key, in part files that appear whole or not at all. One writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[_Key, Row] = {}
        self._fresh: list[Row] = []
        self._next = 0
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        for path in sorted(folder.glob("verdicts-*.jsonl")):
            self._next = int(path.stem.rpartition("-")[2]) + 1
            for _, row in read_jsonl(path):
                self._known[_Key(*row["key"])] = row["fields"]

    def __contains__(self, key: _Key) -> bool:
        return key in self._known

    def __getitem__(self, key: _Key) -> Row:
        return self._known[key]

    def add(self, key: _Key, fields: Row) -> None:
        """Remember a verdict; errors only until this process ends, so that the next one tries again."""
        self._known[key] = fields
        if ERROR_KEY not in fields:
            self._fresh.append({"key": list(key), "fields": fields})
        if len(self._fresh) >= _PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        if self._fresh:
            write_jsonl(self._folder / f"verdicts-{self._next:06d}.jsonl", self._fresh)
            self._next += 1
            self._fresh = []


def samples_files(layout: RunLayout) -> list[tuple[CellFile, Path]]:
    """(eval file, its samples file) of each cell that has one. Raises InputError when there is none."""
    found = [
        (cell, path)
        for cell in layout.eval_files()
        if has_table(path := layout.samples_file(cell.cell.checkpoint, cell.cell.level))
    ]
    if not found:
        raise InputError(
            "no *.samples.jsonl files, which hold the code to verify",
            path=layout.evals,
            fix="name a run directory with evals/checkpoint-N_prefillL.jsonl.samples.jsonl",
        )
    return found


def output_folder(layout: RunLayout, verifier: Verifier, re_extract: bool = False) -> Path:
    """`RUN/rescore/{verifier identity}`: another verifier's verdicts never mix with these, nor code read again."""
    name = re.sub(r"[^\w.-]+", "-", verifier.identity())
    return layout.root / "rescore" / (f"{name}-re-extracted" if re_extract else name)


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
    """The row with the status of its stored code, which older rows lack."""
    if row.get("code_status") in UNJUDGED:
        return row
    code = row.get("code")
    found = Extraction(code, CodeStatus.NO_CODE if code is None else status_of(code, name))
    return row | {"code_status": found.ended_by(row.get("finish_reason")).status.value}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Rows as they are to be judged."""

    problems: Mapping[str, Problem]
    re_extract: bool

    def prepared(self, row: Row) -> Row:
        """With its code, and the code's status; a failed generation or unknown task as it is."""
        problem = self.problems.get(row["task_id"])
        if _not_generated(row) or problem is None:
            return row
        read = _read_again if self.re_extract else _with_status
        return read(row, problem.function_name)

    @property
    def keys(self) -> tuple[str, ...]:
        """What every row must have."""
        return ("task_id", "attempt_idx", "code", *(("response",) if self.re_extract else ()))


def rescore_run(
    layout: RunLayout,
    problems: Mapping[str, Problem],
    verifier: Verifier,
    output: Path | None = None,
    on_progress: OnProgress | None = None,
    re_extract: bool = False,
) -> RescoreReport:
    """Verify every stored completion of a run again and write the new rows and the differences.

    re_extract: take the code out of the stored responses anew, instead of the stored code. Each distinct (task, code)
    is verified once, over all of the verifier's workers. Rows whose generation failed are kept as they are; rows of
    tasks without a problem are kept and counted.
    """
    folder = output or output_folder(layout, verifier, re_extract)
    reader = _Reader(problems, re_extract)
    files = samples_files(layout)
    digests = {task_id: problem_digest(problem) for task_id, problem in problems.items()}
    store = VerdictStore(folder / "verdicts")
    needed = _collect(files, digests, reader)
    missing = {key: code for key, code in needed.items() if key not in store}
    try:
        _verify(missing, problems, verifier, store, len(needed), on_progress)
    finally:
        store.flush()
    tally = _Tally()
    target = RunLayout(folder)
    with _Output(target, archived=any(is_archived(path) for _, path in files)) as written:
        for cell, path in files:
            written.add(cell.cell, [_rescored(row, reader, cell, digests, store, tally) for _, row in read_jsonl(path)])
    if layout.config.is_file():
        target.config.write_bytes(layout.config.read_bytes())
    report = RescoreReport(
        output=folder,
        verifier=verifier.identity(),
        n_rows=tally.rows,
        n_verified=len(missing),
        n_reused=len(needed) - len(missing),
        n_errors=tally.errors,
        n_not_generated=tally.not_generated,
        n_unknown_tasks=sum(tally.unknown.values()),
        n_unjudged=tally.unjudged,
        n_code_changed=tally.code_changed,
        changes=tuple(tally.changes),
        exploits_before=tally.before,
        exploits_after=tally.after,
        unknown_tasks=tuple(sorted(tally.unknown)),
    )
    write_jsonl(folder / "changes.jsonl", map(asdict, report.changes))
    write_json(folder / "rescore.json", report.to_json())
    return report


class _Output:
    """Writes cells as the run has them: their tables in files of their own, or in archives."""

    def __init__(self, target: RunLayout, archived: bool) -> None:
        self._target = target
        self._archives = TableArchives() if archived else None
        self._n_cells = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archives is not None:
            self._archives.__exit__(kind, value, trace)
        if kind is None:
            remove_replaced(self._target.evals)

    def add(self, cell: CellName, rows: Sequence[Row]) -> None:
        """Write a cell's tables."""
        write = atomic_write_bytes if self._archives is None else self._archives.write
        write(self._target.samples_file(*cell), encode_rows(rows))
        write(self._target.eval_file(*cell), encode_rows(select_keys(row, EVAL_KEYS) for row in rows))
        self._n_cells += 1
        if self._archives is not None and self._n_cells % _CELLS_TOGETHER == 0:
            self._archives.commit()


def _key(row: Row, digests: Mapping[str, str]) -> _Key | None:
    """Key of a row to verify; None for a failed generation, a task without a problem, and where there is no code."""
    if _not_generated(row) or row["task_id"] not in digests or row["code_status"] in UNJUDGED:
        return None
    text = hashlib.sha256(row["code"].encode("utf-8", "surrogatepass")).hexdigest()
    return _Key(row["task_id"], digests[row["task_id"]], text)


def _not_generated(row: Row) -> bool:
    return str(row.get(ERROR_KEY) or "").startswith(_GENERATION)


def _collect(
    files: Sequence[tuple[CellFile, Path]], digests: Mapping[str, str], reader: _Reader
) -> dict[_Key, str | None]:
    """Every distinct submission of the run. Raises InputError for a row without its code, or its response."""
    needed: dict[_Key, str | None] = {}
    known = False
    for _, path in files:
        for stored in read_rows(path, reader.keys):
            row = reader.prepared(stored)
            known = known or row["task_id"] in digests
            key = _key(row, digests)
            if key is not None:
                needed[key] = row["code"]
    if not known:
        raise InputError(
            "none of the run's tasks has a problem here, so nothing can be verified",
            fix="name the problems the run was made with: --problems FILE",
        )
    return needed


def _verify(
    missing: Mapping[_Key, str | None],
    problems: Mapping[str, Problem],
    verifier: Verifier,
    store: VerdictStore,
    total: int,
    on_progress: OnProgress | None,
) -> None:
    keys = list(missing)
    submissions = [Submission(number, problems[key.task_id], missing[key]) for number, key in enumerate(keys)]
    known = total - len(keys)
    for number, verification in verifier.verify_many(submissions):
        store.add(keys[number], verdict_fields(verification))
        known += 1
        if on_progress is not None:
            on_progress(known, total)


_VERDICT_KEYS = tuple(field.name for field in EVAL_FIELDS if field.owner is Owner.VERIFIER)


def _rescored(
    stored: Row, reader: _Reader, cell: CellFile, digests: Mapping[str, str], store: VerdictStore, tally: _Tally
) -> Row:
    """The row with its new verdicts; counts it."""
    tally.rows += 1
    row = reader.prepared(stored)
    tally.code_changed += row.get("code") != stored.get("code")
    tally.before += row.get("exploit_success") is True
    if _not_generated(row) or row["task_id"] not in digests:
        tally.not_generated += _not_generated(row)
        tally.after += row.get("exploit_success") is True
        if not _not_generated(row):
            tally.unknown[row["task_id"]] += 1
        return row
    key = _key(row, digests)
    tally.unjudged += key is None
    fields = dict.fromkeys(_VERDICT_KEYS) if key is None else store[key]
    new = {name: value for name, value in row.items() if name != ERROR_KEY} | fields
    tally.errors += ERROR_KEY in fields
    tally.after += new["exploit_success"] is True
    old_pair, new_pair = ((one.get("secure_pass"), one.get("insecure_pass")) for one in (row, new))
    if old_pair != new_pair:
        tally.changes.append(
            Change(
                checkpoint=cell.cell.checkpoint,
                prefill_level=cell.cell.level,
                task_id=row["task_id"],
                attempt_idx=row["attempt_idx"],
                exploit_type=row.get("exploit_type"),
                old=old_pair,
                new=new_pair,
                detail=fields.get(ERROR_KEY),
            )
        )
    return new


def rescore_problems(layout: RunLayout, source: str | None, split: str | None) -> dict[str, Problem]:
    """Problems by id: from `source`, else as the run was planned with. Raises InputError when neither is there."""
    if source == "builtin":
        from foreshock.jobs.verify.builtin.problems import builtin_problems

        return {problem.id: problem for name in _builtin_splits(split) for problem in builtin_problems(name)}
    if source is not None:
        from foreshock.jobs.verify.hub import load_problem_source

        return {problem.id: problem for problem in load_problem_source(source, split)}
    if not layout.problems.is_file():
        raise InputError(
            "the run does not hold its problems",
            path=layout.problems,
            fix="name them: --problems FILE, hf://datasets/ORG/NAME@REVISION or builtin",
        )
    from foreshock.jobs.verify.problems import load_problems

    return {problem.id: problem for problem in load_problems(layout.problems)}


def _builtin_splits(split: str | None) -> Iterator[Any]:
    if split not in (None, "train", "eval"):
        raise InputError(f"--split {split!r} is not a split of the built-in problems; valid: train, eval")
    yield from ("train", "eval") if split is None else (split,)
