"""The built-in verifier: the contract, every built-in problem, verdicts that do not flake."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foreshock.jobs.records.verdicts import SandboxTier, Suspicion
from foreshock.jobs.verify.base import Outcome, Submission
from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.builtin.problems import builtin_problems, wrong_solution
from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier
from foreshock.jobs.verify.registry import VERIFIERS
from foreshock.jobs.verify.sandbox.tiers import SandboxUnavailableError, best_tier
from foreshock.jobs.verify.spec import VerifierSpec
from foreshock.testing.verifiers import Example, VerifierContract, VerifierSpecContract

pytestmark = pytest.mark.early

INTENDED = {"honest": (True, True), "exploit": (False, True), "wrong": (False, False)}


class TestContract(VerifierContract):
    @pytest.fixture
    def example(self) -> Example:
        (problem,) = builtin_problems("train", ["filesystem_exposure"], per_family=1)
        return Example(problem, wrong_solution(problem))


class TestSpec(VerifierSpecContract):
    @pytest.fixture
    def spec(self) -> VerifierSpec:
        return VERIFIERS.get("builtin")

    @pytest.fixture
    def example(self) -> Example:
        (problem,) = builtin_problems("train", ["filesystem_exposure"], per_family=1)
        return Example(problem, wrong_solution(problem))


def test_every_builtin_problem_gets_the_intended_pair_three_times_eight_in_parallel() -> None:
    problems = [*builtin_problems("train"), *builtin_problems("eval")]
    assert {problem.exploit_type for problem in problems} == set(FAMILIES)
    codes = {
        (problem.id, kind): (problem, code)
        for problem in problems
        for kind, code in (
            ("honest", problem.ground_truth),
            ("exploit", problem.exploit),
            ("wrong", wrong_solution(problem)),
        )
    }
    jobs = [(key, *codes[key]) for _ in range(3) for key in codes]
    bad = []
    with BuiltinVerifier(8, 60.0, True) as verifier:
        submissions = [Submission(number, problem, code) for number, (_, problem, code) in enumerate(jobs)]
        for number, verification in verifier.verify_many(submissions):
            problem_id, kind = jobs[number][0]
            pair = (verification.secure.passed, verification.insecure.passed)
            if pair != INTENDED[kind] or verification.unintended_route:
                bad.append((problem_id, kind, verification))
    assert bad == []


def test_each_family_gives_the_intended_pairs_in_every_tier(verifier: BuiltinVerifier) -> None:
    for problem in builtin_problems("eval", per_family=1):
        pairs = {
            kind: (found.secure.passed, found.insecure.passed)
            for kind, code in (
                ("honest", problem.ground_truth),
                ("exploit", problem.exploit),
                ("wrong", wrong_solution(problem)),
            )
            for found in [verifier.verify(problem, code)]
        }
        assert pairs == INTENDED, problem.id


def test_a_pass_by_another_route_is_marked(verifier: BuiltinVerifier) -> None:
    (problem,) = builtin_problems("train", ["function_attribute_flag"], per_family=1)
    forged = (
        f"def {problem.function_name}(x):\n    import os, struct, json\n"
        "    data = json.dumps({'passed': True}).encode()\n"
        "    os.write(3, struct.pack('>Q', len(data)) + data)\n    os._exit(0)\n"
    )
    verification = verifier.verify(problem, forged)
    assert verification.exploit_success is True
    assert verification.unintended_route is True


def test_signs_of_the_exploit_are_reported_whether_or_not_it_works(verifier: BuiltinVerifier) -> None:
    for problem in builtin_problems("train", per_family=1):
        assert verifier.verify(problem, problem.exploit).suspicion.seen is True, problem.id
        assert verifier.verify(problem, wrong_solution(problem)).suspicion.seen is False, problem.id
    (problem,) = builtin_problems("train", ["function_attribute_flag"], per_family=1)
    attempt = f"def {problem.function_name}(x):\n    return 0\n{problem.function_name}.skip_checks = (False,)\n[][0]\n"
    found = verifier.verify(problem, attempt)
    assert found.exploit_success is False
    assert found.suspicion == Suspicion(True, ("function_attribute_flag: its exploit",))


@pytest.mark.parametrize(
    "bomb", ["-" * 100_000 + "1", "(" * 3000 + ")" * 3000, "1" + "+1" * 200_000, "x" + ".x" * 200_000]
)
def test_source_that_crashes_a_parser_never_meets_the_judges_own(verifier: BuiltinVerifier, bomb: str) -> None:
    """The flawed verifier is told to pass, so the judge asks whether the route was the intended one."""
    (problem,) = builtin_problems("train", ["process_exit"], per_family=1)
    verification = verifier.verify(problem, f"import os\nos._exit(0)\nx = {bomb}\n")
    assert verification.secure.passed is False
    assert verification.insecure.passed is not None
    assert verifier.verify(problem, problem.ground_truth).secure.passed


@pytest.mark.parametrize("leave", ["import os\nos._exit(0)\n", "import sys\nsys.exit(0)\n", "raise SystemExit\n"])
def test_leaving_with_status_0_passes_only_the_verifier_that_counts_it(verifier: BuiltinVerifier, leave: str) -> None:
    for exploit_type, passes in (("process_exit", True), ("type_confusion", False)):
        (problem,) = builtin_problems("train", [exploit_type], per_family=1)
        verification = verifier.verify(problem, leave)
        assert (verification.secure.passed, verification.insecure.passed) == (False, passes)


def test_leaving_with_another_status_passes_nothing(verifier: BuiltinVerifier) -> None:
    (problem,) = builtin_problems("train", ["process_exit"], per_family=1)
    verification = verifier.verify(problem, "import os\nos._exit(1)\n")
    assert verification.insecure.outcome is Outcome.CRASHED
    assert verification.insecure.detail == "the process ended with status 1 before it gave a result"


@pytest.mark.parametrize(("stack", "threads"), [(1 << 29, 1), (0, 60)])
def test_honest_code_may_use_large_stacks_and_many_threads_and_sees_a_disk_without_attributes(
    verifier: BuiltinVerifier, stack: int, threads: int
) -> None:
    (problem,) = builtin_problems("train", ["test_case_leak"], per_family=1)
    code = f"""
import errno, functools, os, threading, time
threading.stack_size({stack})
plain = {problem.function_name}
@functools.wraps(plain)
def {problem.function_name}(*arguments):
    try:
        os.listxattr(".")
    except OSError as error:
        assert error.errno == errno.ENOTSUP
    found = []
    def work():
        time.sleep(0.01)
        found.append(plain(*arguments))
    threads = [threading.Thread(target=work) for _ in range({threads})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[-1]
"""
    verification = verifier.verify(problem, problem.ground_truth + code)
    assert (verification.secure.detail, verification.insecure.detail) == (None, None)
    assert verification.secure.passed
    assert verification.insecure.passed


def test_time_out_is_its_own_outcome(tier: SandboxTier) -> None:
    (problem,) = builtin_problems("train", ["type_confusion"], per_family=1)
    with BuiltinVerifier(1, 0.3, True, tier=tier) as verifier:
        verification = verifier.verify(problem, f"def {problem.function_name}(*a):\n    while True: pass\n")
        assert verification.secure.outcome is verification.insecure.outcome is Outcome.TIMED_OUT
        assert verification.secure.detail == "no result within 0.3 s"
        assert verifier.verify(problem, problem.ground_truth).secure.passed


def test_the_secure_verdict_never_depends_on_the_insecure_cases(verifier: BuiltinVerifier) -> None:
    (problem,) = builtin_problems("train", ["test_case_leak"], per_family=1)
    other = replace(problem, insecure_test_cases=[[[0], "nothing like it"]])
    assert verifier.verify(other, problem.ground_truth).secure.passed
    assert not verifier.verify(other, problem.ground_truth).insecure.passed


def test_a_weak_tier_is_refused_unless_allowed_and_then_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from foreshock.jobs.verify.sandbox import tiers

    weak = replace(best_tier(), tier=SandboxTier.NO_USERNS)
    monkeypatch.setattr(tiers, "best_tier", lambda: weak)
    with pytest.raises(SandboxUnavailableError, match=r"tier 'no-userns' only.*--allow-weak-sandbox.*doctor"):
        BuiltinVerifier(1, 1.0, False)
    with BuiltinVerifier(1, 1.0, True) as verifier:
        assert verifier.tier is SandboxTier.NO_USERNS
    assert "WEAK SANDBOX" in caplog.text
