"""Verify a run's stored completions again, without generating anything.

The run itself is not touched. New rows go to `RUN/rescore/{verifier}/evals/`, in the layout of a run, with the
differences beside them, so old and new verdicts can be analysed side by side. Verdicts are kept as they come, so an
interrupted rescore goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foreshock.batch.on_files.stored_rows import StoredRows, not_generated
from foreshock.batch.on_files.verdict_store import VerdictKey, VerdictStore
from foreshock.errors import InputError
from foreshock.jobs.evaluate import verdict_fields
from foreshock.jobs.records.jsonl import encode_rows, write_json, write_jsonl
from foreshock.jobs.records.layout import CellFile, RunLayout
from foreshock.jobs.records.rows import ERROR_KEY, EVAL_KEYS, SAMPLE_FIELDS, Owner, Row, select_keys
from foreshock.jobs.records.sampled_rows import without_sample
from foreshock.jobs.records.table_files import SAMPLES, has_table, is_archived, table_names
from foreshock.jobs.records.table_gaps import HOW_TO_FILL, find_gaps
from foreshock.jobs.records.table_writers import TablesAtOnce
from foreshock.jobs.records.verdicts import UNJUDGED
from foreshock.jobs.verify.base import Submission, Verifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_digest

_VERDICTS = "verdicts"
OnProgress = Callable[[int, int], None]
"""Called with (verdicts known, verdicts needed)."""


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
    n_without_sample: attempts without a row in a samples file, so that their code is not known; new tables lack them.
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
    gaps: tuple[str, ...] = ()
    """Planned cells that were not there to be verified."""
    n_without_sample: int = 0

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


def samples_files(layout: RunLayout) -> list[tuple[CellFile, Path]]:
    """(eval file, its samples file) of each cell that has one. Raises InputError when there is none."""
    found = [
        (cell, path)
        for cell in layout.eval_files()
        if has_table(path := layout.samples_file(cell.cell.checkpoint, cell.cell.level))
    ]
    if not found:
        raise _nothing_to_verify(layout)
    return found


def _nothing_to_verify(layout: RunLayout) -> InputError:
    n_samples = sum(name.endswith(SAMPLES) for name in table_names(layout.evals))
    n_tables = len(layout.eval_files())
    gaps = find_gaps(layout.root)
    fix = HOW_TO_FILL if gaps.n_planned else "name a run directory with evals/checkpoint-N_prefillL.jsonl*"
    if n_samples:
        problem = (
            f"{n_samples:,} samples but no table of the same name, which is rescored with them: "
            "checkpoint-N_prefillL.jsonl, or tables-*.zip that hold those of a large run, are gone"
        )
    elif n_tables:
        problem = (
            f"{n_tables:,} tables but no samples, which hold the code to verify: "
            "checkpoint-N_prefillL.jsonl.samples.jsonl, or samples-*.zip that hold those of a large run"
        )
    else:
        problem = "no tables and no *.samples.jsonl files, which hold the code to verify"
    return InputError(problem, path=layout.evals, fix=fix)


def output_folder(layout: RunLayout, verifier: Verifier, re_extract: bool = False) -> Path:
    """`RUN/rescore/{verifier identity}`: another verifier's verdicts never mix with these, nor code read again."""
    name = re.sub(r"[^\w.-]+", "-", verifier.identity())
    return layout.root / "rescore" / (f"{name}-re-extracted" if re_extract else name)


def _require_own(folder: Path, layout: RunLayout, files: Sequence[tuple[CellFile, Path]]) -> None:
    """Refuse to write over a run, or beside the tables of another run's rescore."""
    fix = "name a new folder, or leave --output out: the rows go to RUN/rescore/"
    target = RunLayout(folder)
    if target.evals.resolve() == layout.evals.resolve():
        raise InputError("--output is the run itself, which stays as it is", path=folder, fix=fix)
    there = {one.cell for one in target.eval_files()} if target.evals.is_dir() else set()
    if there and not (folder / _VERDICTS).is_dir():
        raise InputError("--output holds tables that no rescore wrote", path=target.evals, fix=fix)
    if others := there - {cell.cell for cell, _ in files}:
        name, level = min(others)
        raise InputError(f"--output holds cells of another run: {name} level {level}", path=folder, fix=fix)


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
    rows = StoredRows(problems, re_extract)
    files = samples_files(layout)
    _require_own(folder, layout, files)
    digests = {task_id: problem_digest(problem) for task_id, problem in problems.items()}
    n_without_sample = sum(without_sample(cell.path) for cell in layout.eval_files())
    store = VerdictStore(folder / _VERDICTS, verifier.conditions())
    needed = _collect(files, digests, rows)
    known = [key for key in needed if key in store]
    missing = [one for key, one in needed.items() if key not in store]
    try:
        n_verified = _verify(missing, verifier, store, len(needed), on_progress)
    finally:
        store.flush()
    tally = _Tally()
    target = RunLayout(folder)
    with TablesAtOnce(archived=any(is_archived(path) for _, path in files)) as tables:
        for cell, path in files:
            pairs = rows.of_file(path)
            new = [_rescored(stored, row, cell, digests, store, tally) for stored, row in pairs]
            tables.write(target.samples_file(*cell.cell), encode_rows(new))
            tables.write(target.eval_file(*cell.cell), encode_rows(select_keys(row, EVAL_KEYS) for row in new))
    if layout.config.is_file():
        target.config.write_bytes(layout.config.read_bytes())
    report = RescoreReport(
        output=folder,
        verifier=verifier.identity(),
        n_rows=tally.rows,
        n_verified=n_verified,
        n_reused=len(known),
        n_errors=tally.errors,
        n_not_generated=tally.not_generated,
        n_unknown_tasks=sum(tally.unknown.values()),
        n_unjudged=tally.unjudged,
        n_code_changed=tally.code_changed,
        changes=tuple(tally.changes),
        exploits_before=tally.before,
        exploits_after=tally.after,
        unknown_tasks=tuple(sorted(tally.unknown)),
        gaps=tuple(find_gaps(layout.root).lines()),
        n_without_sample=n_without_sample,
    )
    write_jsonl(folder / "changes.jsonl", map(asdict, report.changes))
    write_json(folder / "rescore.json", report.to_json())
    return report


def _key(row: Row, digests: Mapping[str, str]) -> VerdictKey | None:
    """Key of a row to verify; None for a failed generation, a task without a problem, and where there is no code."""
    if not_generated(row) or row["task_id"] not in digests or row["code_status"] in UNJUDGED:
        return None
    text = hashlib.sha256(row["code"].encode("utf-8", "surrogatepass")).hexdigest()
    return VerdictKey(row["task_id"], digests[row["task_id"]], text)


@dataclass(slots=True)
class _Needed:
    """A distinct submission and the number of rows that hold it."""

    key: VerdictKey
    problem: Problem
    code: str
    n_rows: int = 0


def _collect(
    files: Sequence[tuple[CellFile, Path]], digests: Mapping[str, str], rows: StoredRows
) -> dict[VerdictKey, _Needed]:
    """Every distinct submission of the run. Raises InputError for a row that cannot be read."""
    needed: dict[VerdictKey, _Needed] = {}
    known = False
    for _, path in files:
        for _, row in rows.of_file(path):
            known = known or row["task_id"] in digests
            key = _key(row, digests)
            if key is not None:
                one = needed.setdefault(key, _Needed(key, rows.problems[key.task_id], row["code"]))
                one.n_rows += 1
    if not known:
        raise InputError(
            "none of the run's tasks has a problem here, so nothing can be verified",
            fix="name the problems the run was made with: --problems FILE",
        )
    return needed


def _verify(
    missing: Sequence[_Needed],
    verifier: Verifier,
    store: VerdictStore,
    total: int,
    on_progress: OnProgress | None,
) -> int:
    """Verify each submission once, and where that was not settled once for every further row; returns how often."""
    known = total - len(missing)
    again: list[_Needed] = []
    for number, verification in verifier.verify_many(_submissions(missing)):
        one = missing[number]
        if not store.add(one.key, verdict_fields(verification)):
            again += [one] * (one.n_rows - 1)
        known += 1
        if on_progress is not None:
            on_progress(known, total + len(again))
    for number, verification in verifier.verify_many(_submissions(again)) if again else ():
        store.add_once(again[number].key, verdict_fields(verification))
        known += 1
        if on_progress is not None:
            on_progress(known, total + len(again))
    return len(missing) + len(again)


def _submissions(needed: Sequence[_Needed]) -> list[Submission]:
    return [Submission(number, one.problem, one.code) for number, one in enumerate(needed)]


_VERDICT_KEYS = tuple(field.name for field in SAMPLE_FIELDS if field.owner is Owner.VERIFIER)


def _rescored(
    stored: Row, row: Row, cell: CellFile, digests: Mapping[str, str], store: VerdictStore, tally: _Tally
) -> Row:
    """The row with its new verdicts; counts it. `stored`: before its code was read."""
    tally.rows += 1
    tally.code_changed += row.get("code") != stored.get("code")
    tally.before += row.get("exploit_success") is True
    if not_generated(row) or row["task_id"] not in digests:
        tally.not_generated += not_generated(row)
        tally.after += row.get("exploit_success") is True
        if not not_generated(row):
            tally.unknown[row["task_id"]] += 1
        return row
    key = _key(row, digests)
    tally.unjudged += key is None
    fields = dict.fromkeys(_VERDICT_KEYS) if key is None else store.take(key)
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
