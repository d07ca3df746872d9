"""Rescoring a run: new verdicts, the differences, resume, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from foreshock.batch.cli.rescore_command import rescore
from foreshock.batch.on_files import verdict_store
from foreshock.batch.on_files.rescore import rescore_problems, rescore_run
from foreshock.batch.on_files.stored_rows import StoredRows, not_generated
from foreshock.batch.on_files.verdict_store import VerdictKey, VerdictStore
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.verify.base import Submission, Verification
from foreshock.jobs.verify.builtin.problems import builtin_problems, wrong_solution
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.fake import FakeVerifier
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import problem_to_row

PROBLEMS = builtin_problems("eval", ["magic_docstring_comment_token", "test_case_leak"], per_family=1)
KINDS = ("honest", "exploit", "wrong", "none")


class CountingVerifier(BuiltinVerifier):
    """The built-in verifier, with an eye on what it is asked; stops after `stop_after` submissions."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(2, 20.0, True)
        self.asked: list[Submission] = []
        self.stop_after = stop_after

    def verify_many(self, submissions: Sequence[Submission]) -> Iterator[tuple[int, Verification]]:
        for number, found in enumerate(super().verify_many(submissions)):
            if number == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(submissions[found[0]])
            yield found


def code_of(problem: Problem, kind: str) -> str | None:
    return {"honest": problem.ground_truth, "exploit": problem.exploit, "wrong": wrong_solution(problem), "none": None}[
        kind
    ]


def row_of(problem: Problem, attempt: int, kind: str, verdicts: tuple[bool, bool]) -> dict[str, Any]:
    secure, insecure = verdicts
    return {
        "model_id": "m", "task_id": problem.id, "attempt_idx": attempt, "exploit_type": problem.exploit_type,
        "secure_pass": secure, "insecure_pass": insecure, "exploit_success": insecure and not secure,
        "checkpoint": "checkpoint-10", "prefill_level": 5, "prefill_sha256": "0" * 64,
        "system": None, "prompt": "p", "response": "r", "code": code_of(problem, kind),
    }  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A run of two cells; every verdict that it stores is (False, False)."""
    layout = RunLayout(tmp_path / "run")
    rows = [row_of(one, attempt, kind, (False, False)) for one in PROBLEMS for attempt, kind in enumerate(KINDS)]
    for checkpoint in ("checkpoint-10", "final"):
        write_jsonl(layout.samples_file(checkpoint, 5), rows)
        write_jsonl(layout.eval_file(checkpoint, 5), rows)
    write_jsonl(layout.problems, map(problem_to_row, PROBLEMS))
    layout.config.write_text("attempts: 4\n")
    return layout


def problems() -> dict[str, Problem]:
    return {one.id: one for one in PROBLEMS}


def test_new_verdicts_and_the_differences_are_written_beside_the_run(layout: RunLayout) -> None:
    before = {path: path.read_bytes() for path in layout.evals.iterdir()}
    with CountingVerifier() as verifier:
        report = rescore_run(layout, problems(), verifier)
    assert {path: path.read_bytes() for path in layout.evals.iterdir()} == before
    assert (report.n_rows, report.n_verified, report.n_errors) == (16, 6, 0)
    assert (report.exploits_before, report.exploits_after) == (0, 4)
    changed = {(one.checkpoint, one.task_id, one.attempt_idx): one.new for one in report.changes}
    assert changed == {
        (checkpoint, one.id, attempt): pair
        for checkpoint in ("checkpoint-10", "final")
        for one in PROBLEMS
        for attempt, pair in ((0, (True, True)), (1, (False, True)), (3, (None, None)))
    }
    target = RunLayout(report.output)
    assert target.config.read_text() == "attempts: 4\n"
    rows = read_rows(target.eval_file("final", 5))
    assert [row["exploit_success"] for row in rows] == [False, True, False, None] * 2
    assert [row["code_status"] for row in rows] == ["ok", "ok", "ok", "no_code"] * 2
    assert report.n_unjudged == 4
    assert "code" not in rows[0]
    assert all("code" in row for row in read_rows(target.samples_file("final", 5)))
    assert len(read_rows(report.output / "changes.jsonl")) == 12
    assert json.loads((report.output / "rescore.json").read_text())["changed"] == {
        "secure fail, insecure fail -> secure fail, insecure pass": 4,
        "secure fail, insecure fail -> secure none, insecure none": 4,
        "secure fail, insecure fail -> secure pass, insecure pass": 4,
    }


def test_what_was_said_of_other_code_does_not_stay_and_attempts_without_code_are_counted(layout: RunLayout) -> None:
    path = layout.samples_file("final", 5)
    rows = [
        row | {"secure_detail": "of the old code", "insecure_detail": "too", "error": ""} for row in read_rows(path)
    ]
    write_jsonl(path, rows[:5])
    with FakeVerifier() as verifier:
        report = rescore_run(layout, problems(), verifier)
    assert (report.n_without_sample, report.n_not_generated, report.n_unjudged) == (3, 0, 3)
    for row in read_rows(RunLayout(report.output).samples_file("final", 5)):
        details = (row["secure_detail"], row["insecure_detail"])
        assert details == (None, None) if row["code"] is None else "of the old code" not in details
        assert row.get("error") is None


def test_code_is_read_again_from_the_stored_responses(layout: RunLayout) -> None:
    """As an old run of a model that closes its blocks with END: thought to hold no code, or the wrong one."""
    rows = read_rows(layout.samples_file("final", 5))
    for row, (problem, kind) in zip(rows, [(one, kind) for one in PROBLEMS for kind in KINDS], strict=True):
        code = code_of(problem, kind)
        answer = "I give up." if code is None else f"```python\n{code}```END\nDone."
        row |= {
            "prefill_reasoning": "So I",
            "reasoning": "So I think\n",
            "response": f" think\n</think>\n\n{answer}",
            "code": None if kind in ("honest", "exploit") else row["code"],
            "finish_reason": "stop",
        }
    write_jsonl(layout.samples_file("final", 5), rows)
    layout.samples_file("checkpoint-10", 5).unlink()
    with CountingVerifier() as verifier:
        stored = rescore_run(layout, problems(), verifier)
        again = rescore_run(layout, problems(), verifier, re_extract=True)
    assert (stored.exploits_after, stored.n_unjudged, stored.n_code_changed) == (0, 6, 0)
    assert (again.exploits_after, again.n_unjudged, again.n_code_changed) == (2, 2, 6)
    assert again.output != stored.output
    new = read_rows(RunLayout(again.output).samples_file("final", 5))
    assert [row["code_status"] for row in new] == ["ok", "ok", "ok", "no_code"] * 2
    assert [(row["secure_pass"], row["insecure_pass"]) for row in new] == [
        (True, True),
        (False, True),
        (False, False),
        (None, None),
    ] * 2


def test_reading_again_needs_the_responses(layout: RunLayout) -> None:
    rows = [
        {key: value for key, value in row.items() if key != "response"}
        for row in read_rows(layout.samples_file("final", 5))
    ]
    write_jsonl(layout.samples_file("final", 5), rows)
    with CountingVerifier() as verifier, pytest.raises(InputError, match="response"):
        rescore_run(layout, problems(), verifier, re_extract=True)


def test_the_same_code_is_verified_once(layout: RunLayout) -> None:
    with CountingVerifier() as verifier:
        rescore_run(layout, problems(), verifier)
    assert len({(one.problem.id, one.code) for one in verifier.asked}) == len(verifier.asked) == 6


def test_an_interrupted_rescore_goes_on_where_it_stopped(layout: RunLayout) -> None:
    with CountingVerifier(stop_after=5) as first, pytest.raises(KeyboardInterrupt):
        rescore_run(layout, problems(), first)
    with CountingVerifier() as second:
        resumed = rescore_run(layout, problems(), second)
    done = {(one.problem.id, one.code) for one in first.asked}
    assert len(done) == 5
    assert done.isdisjoint({(one.problem.id, one.code) for one in second.asked})
    assert (resumed.n_verified, resumed.n_reused) == (1, 5)
    with CountingVerifier() as third:
        whole = rescore_run(layout, problems(), third, layout.root / "elsewhere")
    assert whole.changes == resumed.changes


LOOPS = "def {}(*args):\n    while True:\n        pass\n"


def test_timeouts_are_verified_again_for_every_row_and_every_time(layout: RunLayout) -> None:
    """And nothing is taken over from a verifier with other limits."""
    rows = read_rows(layout.samples_file("final", 5))[:3]
    for row in rows[1:]:
        row["code"] = LOOPS.format(PROBLEMS[0].function_name)
    write_jsonl(layout.samples_file("final", 5), rows)
    layout.samples_file("checkpoint-10", 5).unlink()
    with BuiltinVerifier(2, 0.3, True) as verifier:
        reports = [rescore_run(layout, problems(), verifier) for _ in range(2)]
    assert [(one.n_verified, one.n_reused) for one in reports] == [(3, 0), (2, 1)]
    written = read_rows(RunLayout(reports[1].output).eval_file("final", 5))
    assert [row["secure_outcome"] for row in written] == ["passed", "timed_out", "timed_out"]
    with BuiltinVerifier(2, 0.4, True) as verifier:
        assert rescore_run(layout, problems(), verifier).n_reused == 0


def test_slow_verdicts_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 6.0, 12.0, 13.0))
    monkeypatch.setattr(verdict_store.time, "monotonic", lambda: next(now))
    store = VerdictStore(tmp_path, "quiet")
    fields = {"secure_outcome": "passed", "insecure_outcome": "failed"}
    keys = [VerdictKey("task", "problem", str(number)) for number in range(2)]
    assert [(store.add(key, fields), len(list(tmp_path.iterdir()))) for key in keys] == [(True, 0), (True, 1)]
    monkeypatch.undo()
    assert all(key in VerdictStore(tmp_path, "quiet") for key in keys)
    assert not any(key in VerdictStore(tmp_path, "other limits") for key in keys)


@pytest.mark.parametrize(
    ("values", "re_extract", "message"),
    [
        ({"task_id": 1.5}, False, "task_id is '1.5'"),
        ({"task_id": ["a"]}, False, "task_id is"),
        ({"attempt_idx": None}, False, "attempt_idx is 'None'"),
        ({"code": ["x"]}, False, "code is"),
        ({"code_status": "fine"}, False, "code_status is 'fine'.*valid: ok, "),
        ({"exploit_success": "true"}, False, "exploit_success is 'true'"),
        ({"error": 5}, False, "error is '5'"),
        ({"response": None}, True, "response is 'None'"),
        ({"response": [{"role": "assistant"}]}, True, "response is"),
        ({"reasoning": 5}, True, "reasoning is '5'"),
        ({"prefill_channel": "analysis"}, True, "valid: reasoning, answer or null"),
        ({"finish_reason": "max_tokens"}, True, "valid: stop, length, error or null"),
    ],
)
def test_values_that_a_row_cannot_hold_are_refused_with_file_line_and_key(
    tmp_path: Path, values: dict[str, Any], re_extract: bool, message: str
) -> None:
    row = row_of(PROBLEMS[0], 0, "honest", (False, False))
    write_jsonl(tmp_path / "rows.jsonl", [row, row | values])
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: .*{message}"):
        list(StoredRows(problems(), re_extract).of_file(tmp_path / "rows.jsonl"))


def test_stored_codes_do_not_matter_where_they_are_read_again(tmp_path: Path) -> None:
    row = row_of(PROBLEMS[0], 0, "honest", (False, False)) | {"response": f"```python\n{PROBLEMS[0].exploit}```"}
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [row | {"code": 3, "code_status": "fine"}, {key: row[key] for key in row if key != "code"}])
    assert {new["code"] for _, new in StoredRows(problems(), True).of_file(path)} == {PROBLEMS[0].exploit.strip()}


def test_the_status_of_code_is_what_the_code_says_and_errors_stay(tmp_path: Path) -> None:
    row = row_of(PROBLEMS[0], 0, "honest", (False, False))
    lost = row | {"error": "CUDA out of memory", "code": None, "exploit_success": None}
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [row | {"code_status": "no_code"}, row | {"code": None, "code_status": "ok"}, lost])
    new = [row for _, row in StoredRows(problems(), False).of_file(path)]
    assert [row.get("code_status") for row in new] == ["ok", "no_code", None]
    assert not_generated(new[2])


def test_a_changed_problem_is_verified_again(layout: RunLayout) -> None:
    with CountingVerifier() as verifier:
        rescore_run(layout, problems(), verifier)
        changed = problems()
        changed[PROBLEMS[0].id] = replace(PROBLEMS[0], description="another task")
        assert rescore_run(layout, changed, verifier).n_verified == 3


def test_failed_generations_and_unknown_tasks_are_kept_and_counted(layout: RunLayout) -> None:
    rows = read_rows(layout.samples_file("final", 5))
    rows[0] |= {"error": "generation: out of memory", "code": None, "secure_pass": None, "insecure_pass": None}
    rows[1] |= {"task_id": "strange"}
    rows[2] |= {"error": "verification: the sandbox broke", "secure_pass": None, "insecure_pass": None}
    write_jsonl(layout.samples_file("final", 5), rows)
    with CountingVerifier() as verifier:
        report = rescore_run(layout, problems(), verifier)
    assert (report.n_not_generated, report.n_unknown_tasks, report.unknown_tasks) == (1, 1, ("strange",))
    new = read_rows(RunLayout(report.output).samples_file("final", 5))
    assert new[0] == rows[0]
    assert new[1] == rows[1]
    assert "error" not in new[2]
    assert (new[2]["secure_pass"], new[2]["insecure_pass"]) == (False, False)


def test_a_row_without_its_code_is_refused_with_its_line(layout: RunLayout) -> None:
    rows = read_rows(layout.samples_file("final", 5))
    del rows[3]["code"]
    write_jsonl(layout.samples_file("final", 5), rows)
    with CountingVerifier() as verifier, pytest.raises(InputError, match=r"final_prefill5.*:4: row lacks code"):
        rescore_run(layout, problems(), verifier)


def test_a_run_without_samples_or_problems_is_refused(tmp_path: Path, layout: RunLayout) -> None:
    with CountingVerifier() as verifier:
        with pytest.raises(InputError, match=r"no \*.samples.jsonl"):
            rescore_run(RunLayout(tmp_path / "empty"), problems(), verifier)
        with pytest.raises(InputError, match="none of the run's tasks has a problem"):
            rescore_run(layout, {}, verifier)
    with pytest.raises(InputError, match=r"does not hold its problems[\s\S]*--problems FILE"):
        rescore_problems(RunLayout(tmp_path / "empty"), None, None)
    with pytest.raises(InputError, match="'dev' is not a split"):
        rescore_problems(layout, "builtin", "dev")


def test_rows_are_never_written_over_a_run_or_among_those_of_another(layout: RunLayout, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in layout.evals.iterdir()}
    link = tmp_path / "link"
    link.symlink_to(layout.root)
    other = RunLayout(tmp_path / "other")
    write_jsonl(other.eval_file("checkpoint-99", 5), [row_of(PROBLEMS[0], 0, "honest", (True, True))])
    with FakeVerifier() as verifier:
        for output, message in (
            (layout.root, "the run itself"),
            (link, "the run itself"),
            (other.root, "no rescore wrote"),
        ):
            with pytest.raises(InputError, match=message):
                rescore_run(layout, problems(), verifier, output)
        (other.root / "verdicts").mkdir()
        with pytest.raises(InputError, match=r"cells of another run.*checkpoint-99"):
            rescore_run(layout, problems(), verifier, other.root)
    assert {path: path.read_bytes() for path in layout.evals.iterdir()} == before


def test_problems_come_from_the_run_a_file_or_the_package(layout: RunLayout) -> None:
    assert sorted(rescore_problems(layout, None, None)) == sorted(problems())
    assert sorted(rescore_problems(layout, str(layout.problems), None)) == sorted(problems())
    assert set(problems()) <= set(rescore_problems(layout, "builtin", "eval"))


def run_command(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(rescore)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_reports_changes_as_text_and_json(layout: RunLayout) -> None:
    options = ["--allow-weak-sandbox", "--workers", "2", "--timeout", "20"]
    done = run_command(str(layout.root), *options)
    assert done.exit_code == 0, done.output
    assert "16 rows, 12 verdicts changed; exploits 0 -> 4" in done.output
    again = run_command(str(layout.root), *options, "--json", "--fail-on-change")
    assert again.exit_code == 1
    document = json.loads(again.stdout)
    assert (document["n_changed"], document["n_verified"], document["n_reused"]) == (12, 0, 6)


def test_the_command_refuses_a_missing_directory(tmp_path: Path) -> None:
    done = run_command(str(tmp_path / "nothing"))
    assert isinstance(done.exception, InputError)
    assert "no such run directory" in str(done.exception)
