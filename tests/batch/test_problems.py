"""The problems of a run: filtered, unique, and refused with what would be valid."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.config import ProblemsConfig
from foreshock.batch.problems import load_run_problems
from foreshock.errors import InputError
from foreshock.jobs.verify.builtin.problems import builtin_problems


def load(**changes: Any) -> dict[str, Any]:
    return load_run_problems(ProblemsConfig(**changes), "builtin")


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
