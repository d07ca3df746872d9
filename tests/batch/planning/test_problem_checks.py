"""Inconsistent problems are left out of a run, unless kept, and recorded with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshock.analysis.report.provenance import read_provenance
from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.planning import problem_checks
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.planning.problem_checks import CheckedProblems, checks_of
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.problem_checks import check_lines
from foreshock.jobs.records.verdicts import SandboxTier
from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.builtin.options import family_options
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.problems import insecure_cases, problem_to_row
from foreshock.jobs.verify.sandbox.tiers import SandboxUnavailableError, TierProbe

PROBLEMS = builtin_problems("eval", ["test_case_leak", "process_exit"], per_family=2)
OPTIONS = {"workers": 1, "timeout_s": 20.0, "allow_weak_sandbox": True}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path: Path, *, broken: int) -> Path:
    """Problems in a file, the exploits of the first `broken` being no exploits."""
    rows = [problem_to_row(problem) for problem in PROBLEMS]
    for row in rows[:broken]:
        row["exploit"] = row["ground_truth"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(make_config: Callable[..., RunConfig], source: Path, **problems: Any) -> RunConfig:
    return make_config(
        problems={"source": str(source), "exploit_types": None, **problems},
        prefill={"levels": [0]},
        verifier={"allow_weak_sandbox": True, "timeout_s": 20.0},
    )


def test_an_inconsistent_problem_is_left_out_and_recorded(
    make_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    plan = make_plan(config_of(make_config, write(tmp_path / "problems.jsonl", broken=1)))
    assert sorted(plan.inputs.problems) == sorted(problem.id for problem in PROBLEMS[1:])
    layout = RunLayout(tmp_path / "run")
    layout.root.mkdir()
    plan.write(layout)
    document = json.loads(layout.problem_checks.read_text())
    assert (document["checked"], len(document["inconsistent"]), document["kept"]) == (4, 1, False)
    facts = dict(read_provenance(layout.root).facts())
    assert facts["Problems checked"] == "3 of 4 consistent, 1 inconsistent, left out"
    notes = check_lines(read_provenance(layout.root).problems or {})
    assert any(PROBLEMS[0].id in note and "left out: exploit passes the secure verifier" in note for note in notes), (
        notes
    )


def test_built_in_problems_are_checked_too(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    own = make_config(prefill={"levels": [0]}, verifier={"allow_weak_sandbox": True, "timeout_s": 20.0})
    assert own.problems.source == "builtin"
    checked = make_plan(own).checked
    assert checked.not_checked is None
    assert {check.problem_id: check.consistent for check in checked.checks} == dict.fromkeys(checked.problems, True)


def test_a_machine_that_cannot_verify_is_named_in_plan_and_report(
    make_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise SandboxUnavailableError("no tier works here")

    monkeypatch.setattr("foreshock.batch.planning.problem_checks.create_verifier", fails)
    plan = make_plan(make_config(prefill={"levels": [0]}))
    layout = RunLayout(tmp_path / "run")
    layout.root.mkdir()
    plan.write(layout)
    said = "the problems were not checked: this machine cannot verify: no tier works here"
    assert plan.checked.problems
    assert said in check_lines(read_provenance(layout.root).problems or {})


def test_kept_problems_run_and_are_named(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    source = write(tmp_path / "problems.jsonl", broken=1)
    plan = make_plan(config_of(make_config, source, keep_inconsistent=True))
    assert len(plan.inputs.problems) == 4
    assert [check.problem_id for check in plan.checked.inconsistent] == [PROBLEMS[0].id]


def test_no_consistent_problem_is_an_error(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 4 problems is consistent"):
        make_plan(config_of(make_config, write(tmp_path / "problems.jsonl", broken=4)))


def test_a_check_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checks_of(PROBLEMS, "builtin", OPTIONS, {}, "builtin:x", tmp_path)
    monkeypatch.setattr("foreshock.batch.planning.problem_checks.create_verifier", None)
    assert checks_of(PROBLEMS, "builtin", OPTIONS, {}, "builtin:x", tmp_path) == first
    with pytest.raises(TypeError):
        checks_of(PROBLEMS, "builtin", OPTIONS, {}, "builtin:y", tmp_path)


def test_checks_of_another_tier_or_interpreter_are_not_those_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problem_checks._cache_name("v:1", 5.0, weak=False)
    for tier in SandboxTier:
        monkeypatch.setattr(problem_checks, "best_tier", lambda tier=tier: TierProbe(tier, True, None, ()))
        assert (problem_checks._cache_name("v:1", 5.0, weak=True) == found) is (tier is SandboxTier.FULL)
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    assert problem_checks._cache_name("v:1", 5.0, weak=False) != found


def test_where_an_exploit_misses_the_weakness_that_there_is_is_named(tmp_path: Path) -> None:
    (problem,) = builtin_problems("eval", ["error_code_abuse"], per_family=1)
    exploit = f"def {problem.function_name}(*args):\n    raise ValueError\n"
    misses = replace(problem, exploit=exploit, extra={})
    meant = replace(misses, id="meant", extra={"family_options": '{"error": "ValueError", "token": null}'})
    misspelt = replace(misses, id="misspelt", extra={"family_options": {"exception": "ValueError"}})
    found = checks_of([misses, meant, misspelt], "builtin", OPTIONS, {}, "builtin:x", tmp_path)
    assert [check.consistent for check in found] == [False, True, False]
    assert "NotImplementedError" in found[0].reasons[-1]
    assert found[2].reasons == ("family_options: error_code_abuse has no option 'exception'; valid: error",)


def test_a_problem_without_an_exploit_is_named() -> None:
    assert "(a, b)" in check_lines({"without_exploit": ["a", "b"]})[0]


@pytest.mark.parametrize(
    ("instructions", "named"), [("full", ["silent"]), ("bare", ["silent"]), ("Do this: {description}", [])]
)
def test_a_problem_that_does_not_say_its_weakness_is_named_where_prompts_would(
    instructions: str, named: list[str]
) -> None:
    silent = replace(PROBLEMS[0], id="silent", insecure_verifier_info=" ")
    found = CheckedProblems({"silent": silent, "told": PROBLEMS[1]}).to_json(instructions)
    assert found["without_info"] == named
    assert [line.partition(",")[0] for line in check_lines(found)] == ["without insecure_verifier_info"] * len(named)


def test_leaked_cases_are_the_weak_verifiers_own_where_a_problem_does_not_repeat_them() -> None:
    for problem in PROBLEMS:
        family = FAMILIES[problem.exploit_type]
        own = family_options(problem, family, insecure_cases(problem))
        bare = family_options(replace(problem, extra={}), family, insecure_cases(problem))
        assert family.intended(problem.exploit, bare)
        assert family.intended(problem.exploit, own)


def test_the_page_on_problems_names_every_option_and_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs/problems.md").read_text()
    for family in FAMILIES.values():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{family.name}` |")]
        named = ", ".join(f"`{key}`: {f'`{value}`' if value else 'its cases'}" for key, value in family.options.items())
        assert line.split("|")[3].strip() == named


def test_the_command_lists_what_is_wrong(tmp_path: Path) -> None:
    source = write(tmp_path / "problems.jsonl", broken=1)
    done = CliRunner().invoke(app, ["check", str(source), "--allow-weak-sandbox", "--timeout", "20"])
    assert done.exit_code == 1
    assert f"{PROBLEMS[0].id} (test_case_leak): inconsistent" in done.output
    assert "3 of 4 problems are consistent under builtin:" in done.output
    fine = write(tmp_path / "fine.jsonl", broken=0)
    done = CliRunner().invoke(app, ["check", str(fine), "--allow-weak-sandbox", "--timeout", "20", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["consistent"] == 4
