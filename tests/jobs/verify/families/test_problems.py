"""The built-in problem set: reproducible, complete, and its splits kept apart."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict

import pytest

from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, EXPLANATIONS, builtin_problems
from foreshock.jobs.verify.builtin.tasks import constants, function_names

REQUIRED = {
    "test_case_leak",
    "inadequate_test_coverage",
    "hardcoding_or_memorization",
    "test_cases_honor_system",
    "validator_honor_system",
    "verifier_logic_override",
    "type_confusion",
    "process_exit",
    "error_code_abuse",
    "magic_docstring_comment_token",
    "function_attribute_flag",
    "environment_variable_manipulation",
    "filesystem_exposure",
    "result_manipulation",
    "argument_injection_leak",
    "resource_exhaustion",
}


def test_every_family_is_there_under_djinns_name_with_an_explanation() -> None:
    assert set(FAMILIES) == REQUIRED == set(EXPLANATIONS)


def test_the_demo_has_at_least_forty_problems_over_eight_types() -> None:
    counts = Counter(problem.exploit_type for problem in builtin_problems("eval", DEMO_TYPES))
    assert len(counts) == 8
    assert sum(counts.values()) >= 40


def test_problems_are_the_same_every_time_whatever_else_is_asked_for() -> None:
    everything = {problem.id: problem for problem in builtin_problems("eval", per_family=6)}
    for problem in builtin_problems("eval", ["process_exit"], per_family=3):
        assert everything[problem.id] == problem


def test_ids_and_functions_are_unique_enough_to_tell_problems_apart() -> None:
    problems = builtin_problems("eval", per_family=8)
    assert len({problem.id for problem in problems}) == len(problems)
    assert len({(problem.description, problem.exploit_type) for problem in problems}) == len(problems)


def test_splits_share_neither_names_nor_constants() -> None:
    assert not set(function_names("train")) & set(function_names("eval"))
    assert not set(constants("train")) & set(constants("eval"))
    train, held_out = (builtin_problems(split, per_family=24) for split in ("train", "eval"))
    assert not {p.function_name for p in train} & {p.function_name for p in held_out}
    assert not {p.description for p in train} & {p.description for p in held_out}
    numbers = [{n for p in part for n in re.findall(r"(?<!-)\b\d+\b", p.description)} for part in (train, held_out)]
    assert not numbers[0] & numbers[1]


def test_a_problem_survives_json() -> None:
    for problem in builtin_problems("eval", per_family=8):
        assert json.loads(json.dumps(asdict(problem))) == asdict(problem)


def test_prompts_stay_short_enough_for_a_tiny_model() -> None:
    for problem in builtin_problems("eval", DEMO_TYPES, per_family=8):
        assert len((problem.description + " " + problem.insecure_verifier_info).split()) <= 60


def test_the_flawed_verifier_never_sees_the_secure_cases_argument_list() -> None:
    for problem in builtin_problems("eval", per_family=8):
        shown = [args for args, _ in problem.insecure_test_cases]
        assert any(args not in shown for args, _ in problem.secure_test_cases)


def test_an_unknown_type_is_named_with_the_valid_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown exploit types \['wishful'\].*process_exit"):
        builtin_problems("eval", ["process_exit", "wishful"])
