"""The problems of a run: filtered, unique, and refused with what would be valid."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.config_inputs import ProblemsConfig
from foreshock.batch.planning.problems import load_run_problems
from foreshock.errors import InputError
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.registry import verifier_facts


def load(**changes: Any) -> dict[str, Any]:
    return load_run_problems(ProblemsConfig(**changes), verifier_facts("builtin").exploit_types)


def test_builtin_problems_are_there_and_can_be_narrowed() -> None:
    everything = load()
    assert len(everything) >= 40
    assert len({problem.exploit_type for problem in everything.values()}) >= 15
    some = load(exploit_types=("process_exit", "test_case_leak"), max_problems=3)
    assert len(some) == 3
    assert set(load(split="train")).isdisjoint(everything)


def test_a_file_gives_the_problems_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    problems = builtin_problems("eval", ["process_exit"])
    path.write_text("".join(json.dumps(asdict(problem)) + "\n" for problem in problems))
    assert list(load(source=str(path))) == [problem.id for problem in problems]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split": "test"}, "valid: train, eval"),
        ({"exploit_types": ("nonsense",)}, "nonsense not in builtin; present: "),
        ({"source": "org/name"}, "together with problems.revision"),
        ({"source": "absent"}, "neither a file nor a data set"),
        ({"source": "absent.jsonl"}, "absent.jsonl"),
        ({"source": "problems.txt"}, "neither a file nor a data set"),
        ({"exploit_types": ()}, "no problems left"),
    ],
)
def test_what_cannot_be_loaded_is_explained(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(**changes)


def test_types_that_the_verifier_does_not_know_are_refused_now() -> None:
    with pytest.raises(InputError, match="the verifier does not know exploit type process_exit"):
        load_run_problems(ProblemsConfig(exploit_types=("process_exit",)), frozenset({"test_case_leak"}))


def test_facts_are_those_of_the_running_verifier(tmp_path: Path) -> None:
    facts = verifier_facts("builtin")
    with BuiltinVerifier(workers=1, timeout_s=5.0, allow_weak_sandbox=True) as verifier:
        assert verifier.identity() == facts.identity
        assert set(verifier.exploit_types()) == facts.exploit_types
    with pytest.raises(InputError, match="valid: builtin, djinn"):
        verifier_facts("none")
    with pytest.raises(InputError, match="no djinn checkout"):
        verifier_facts("djinn", {"package": str(tmp_path)})
