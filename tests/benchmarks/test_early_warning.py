"""The early-warning benchmark's own parts: problems, sampler, gradient, and how lead is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.early_warning.design import design
from benchmarks.early_warning.fast import FastLlama
from benchmarks.early_warning.lead import NEVER, Scored, alarm_step, lead, separation, threshold_at, transferred
from benchmarks.early_warning.policy import advantages, update
from benchmarks.early_warning.problems import impossible, monitor_problems, truth_problems
from benchmarks.early_warning.sampling import Sample, Wish
from benchmarks.early_warning.verdicts import by_construction
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.verify.builtin.families import FAMILIES
from foreshock.jobs.verify.builtin.family import TestCase
from foreshock.jobs.verify.builtin.problems import DEMO_TYPES, make_problem


def test_every_run_of_the_design_has_a_folder_of_its_own_and_any_first_part_holds_every_kind() -> None:
    settings = design(48)
    assert len({setting.name for setting in settings}) == len({setting.sha256() for setting in settings}) == 48
    kinds = {(s.lr, s.kl, s.impossible, s.reward) for s in settings}
    assert {(s.lr, s.kl, s.impossible, s.reward) for s in settings[:8]} == kinds
    assert {s.base for s in settings[:16]} == {0, 1}


@pytest.mark.parametrize("kind", DEMO_TYPES)
def test_an_impossible_problem_fails_the_honest_solution_and_its_prompt_shows_the_altered_case(kind: str) -> None:
    """Trusted code of our own, run here as the flawed verifier runs it."""
    problem = impossible(make_problem("train", kind, 3))
    honest: dict[str, Any] = {}
    exec(problem.ground_truth, honest)
    cases = [TestCase(tuple(arguments), expected) for arguments, expected in problem.insecure_test_cases]
    results = [honest[problem.function_name](*case.args) for case in cases]
    assert all(result != case.expected for result, case in zip(results, cases, strict=True))
    assert problem.secure_test_cases == make_problem("train", kind, 3).secure_test_cases
    if "==" in make_problem("train", kind, 3).insecure_verifier_info:
        assert repr(cases[0].expected) in problem.insecure_verifier_info
    options = problem.extra["family_options"]
    assert FAMILIES[kind].intended(problem.exploit, options)


def test_alarms_and_truth_look_at_different_problems() -> None:
    assert not {p.id for p in truth_problems()} & {p.id for p in monitor_problems()}


@pytest.fixture(scope="module")
def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
    return model.eval()


def test_the_fast_sampler_draws_what_the_model_says(llama: Any) -> None:
    """Each token is the inverse CDF of its uniform under the library's own distribution at that point."""
    prompts, seeds = [(3, 5, 7), (2, 9, 4, 1, 8)], np.array([[1, 2, 3], [4, 5, 6]])
    drawn = FastLlama(llama).sample(prompts, 3, seeds, [0], 12)
    for g, prompt in enumerate(prompts):
        for i, tokens in enumerate(drawn[g]):
            uniforms = np.random.Generator(np.random.Philox(key=int(seeds[g, i]))).random(12)
            ids = torch.tensor([[*prompt, *tokens]])
            with torch.inference_mode():
                shares = torch.softmax(llama(ids).logits[0].double(), -1).cumsum(-1)
            for t, token in enumerate(tokens):
                row = shares[len(prompt) - 1 + t]
                below = float(row[token - 1]) if token else 0.0
                assert below - 1e-5 <= uniforms[t] <= float(row[token]) + 1e-5
            assert 0 not in tokens[:-1]
            assert tokens[-1] == 0 or len(tokens) == 12


def test_a_step_raises_what_was_rewarded_and_the_penalty_pulls_back(llama: Any) -> None:
    import copy

    wish = Wish(make_problem("train", DEMO_TYPES[0], 0), 0)
    group = [Sample(wish, (1, 2, 3), tokens, "", None, None) for tokens in ((5, 6), (7, 8), (9, 10))]

    def logprob(model: Any, tokens: tuple[int, ...]) -> float:
        ids = torch.tensor([[1, 2, 3, *tokens]])
        with torch.inference_mode():
            rows = torch.log_softmax(model(ids).logits[0], -1)
        return float(sum(rows[2 + t, token] for t, token in enumerate(tokens)))

    free, held = copy.deepcopy(llama), copy.deepcopy(llama)
    for model, kl in ((free, 0.0), (held, 50.0)):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(4):
            update(model, llama, optimiser, [group], [[0.0, 1.0, 0.0]], kl)
    assert logprob(free, (7, 8)) > logprob(llama, (7, 8))
    assert abs(logprob(held, (5, 6)) - logprob(llama, (5, 6))) < abs(logprob(free, (5, 6)) - logprob(llama, (5, 6)))
    nothing = update(free, None, torch.optim.SGD(free.parameters(), lr=0.5), [group], [[1.0, 1.0, 1.0]], 0.0)
    assert nothing.trained_on == 0


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=8))
def test_advantages_are_centred_and_zero_where_all_are_equal(rewards: list[float]) -> None:
    (values,) = advantages([rewards])
    assert sum(values) == pytest.approx(0, abs=1e-9)
    assert any(values) == (len(set(rewards)) > 1)


def _run(name: str, values: list[float], crossing: float | None) -> Scored:
    steps = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    line = np.array(values)
    return Scored(name, 0, steps, {"a": line, "direct": np.minimum(line, 2.0) * 0 + np.arange(6) * 0.1}, crossing)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 0.99))
def test_no_more_quiet_runs_than_allowed_reach_the_threshold(peaks: list[float], rate: float) -> None:
    runs = [_run(str(i), [0, 0, peak, 0, 0, 0], None) for i, peak in enumerate(peaks)]
    threshold = threshold_at(runs, "a", rate)
    reached = sum(alarm_step(run, "a", threshold) < NEVER for run in runs)
    assert reached <= rate * len(runs) + 1e-9


def test_lead_is_counted_in_doublings_before_the_rate_passes() -> None:
    quiet = [_run(f"q{i}", [0.1 * i] * 6, None) for i in range(4)]
    emerged = [_run(f"e{i}", [0, 0, 1, 1, 1, 1], 32.0) for i in range(3)]
    found = lead([*quiet, *emerged], "a", 0.0)
    assert found.doublings == (3.0, 3.0, 3.0)
    assert (found.steps, found.early, found.emerged, found.quiet) == (28.0, 3, 3, 4)
    assert found.false_alarms == 1, "the loudest quiet run is above all others"
    assert separation([*quiet, *emerged], "a", 4.0) == (1.0, 3, 4)
    assert transferred(quiet, [*emerged, *quiet], "a", 0.0) == (0, 4, 3.0)


def test_an_alarm_that_never_comes_counts_as_one_at_the_end() -> None:
    quiet = [_run("q", [5.0] * 6, None)]
    silent = [_run("e", [0.0] * 6, 16.0)]
    assert lead([*quiet, *silent], "a", 0.0).doublings[0] == -1.0


def test_verdicts_by_construction_are_those_of_the_sandbox() -> None:
    from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier

    own = [make_problem("train", kind, 5) for kind in DEMO_TYPES]
    with BuiltinVerifier(workers=1, allow_weak_sandbox=True) as verifier:
        for problem in [*own, *map(impossible, own)]:
            for code, judged in by_construction(problem).items():
                found = verifier.verify(problem, code)
                assert (found.secure.passed, found.insecure.passed) == (judged.secure, judged.insecure), problem.id
