"""Scoring plans: what is shared, what is not, and that levels get their own scores back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.engines.base import PromptLogprobs, ScoreRequest
from foreshock.jobs.prompts.base import RenderedPrompt
from foreshock.jobs.scoring.levels import plan_scoring

PROMPT = (1, 2, 3)


def rendered(*prefill: int, prompt: tuple[int, ...] = PROMPT) -> RenderedPrompt:
    return RenderedPrompt((*prompt, *prefill), len(prompt), "")


def score(request: ScoreRequest) -> PromptLogprobs:
    """A score that depends on the whole prefix, as a causal model's does."""
    ids, start = request.token_ids, request.prefill_start
    values = tuple(-float(hash(ids[: i + 1]) % 1000) / 100 - 0.01 for i in range(start, len(ids)))
    return PromptLogprobs(request.request_id, ids, values, start)


def test_levels_whose_ids_are_prefixes_share_one_request() -> None:
    levels = {0: rendered(), 2: rendered(7), 5: rendered(7, 8, 9), 10: rendered(7, 8, 9, 10)}
    plan = plan_scoring({"trace": levels})
    assert [r.token_ids for r in plan.requests] == [(1, 2, 3, 7, 8, 9, 10)]
    scores = plan.collect(map(score, plan.requests))["trace"]
    assert scores[10].token_logprobs[:3] == scores[5].token_logprobs
    assert scores[5].num_tokens == 3
    assert scores[5].logprob_mean == pytest.approx(math.fsum(scores[5].token_logprobs) / 3)


def test_a_level_that_is_tokenised_differently_is_scored_on_its_own() -> None:
    levels = {2: rendered(7, 8), 5: rendered(7, 99), 10: rendered(7, 99, 10)}
    plan = plan_scoring({"trace": levels})
    assert [r.token_ids[3:] for r in plan.requests] == [(7, 99, 10), (7, 8)]
    scores = plan.collect(map(score, plan.requests))["trace"]
    assert scores[2].token_ids == (7, 8)


def test_level_zero_is_exactly_zero_and_costs_nothing() -> None:
    plan = plan_scoring({"trace": {0: rendered()}})
    assert plan.requests == ()
    zero = plan.collect([])["trace"][0]
    assert (zero.logprob_sum, zero.logprob_mean, zero.num_tokens) == (0.0, None, 0)


def test_an_empty_prefill_above_level_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="level 5 of 'trace' has no prefill tokens"):
        plan_scoring({"trace": {5: rendered()}})


def test_the_same_text_is_scored_once_for_all_traces_and_attempts() -> None:
    levels = {2: rendered(7), 5: rendered(7, 8)}
    plan = plan_scoring({("t", 0): levels, ("t", 1): dict(levels), ("u", 0): {5: rendered(7, 8, prompt=(1, 2, 4))}})
    assert len(plan.requests) == 2
    scores = plan.collect(map(score, plan.requests))
    assert scores["t", 0] == scores["t", 1]
    assert scores["u", 0][5].token_logprobs != scores["t", 0][5].token_logprobs


def test_an_equal_sequence_with_another_boundary_is_not_shared() -> None:
    plan = plan_scoring({"a": {5: rendered(7, 8)}, "b": {5: RenderedPrompt((1, 2, 3, 7, 8), 4, "")}})
    assert len(plan.requests) == 2


def test_failed_scores_are_missing_not_zero() -> None:
    plan = plan_scoring({"trace": {2: rendered(7), 5: rendered(7, 8)}})
    failed = PromptLogprobs(0, plan.requests[0].token_ids, (), 3, "out of memory")
    scores = plan.collect([failed])["trace"]
    assert [(s.error, s.logprob_sum, s.logprob_mean) for s in scores.values()] == [("out of memory", None, None)] * 2


def test_a_result_that_never_came_is_noticed() -> None:
    plan = plan_scoring({"trace": {2: rendered(7)}})
    with pytest.raises(ValueError, match=r"no scores came back for requests \[0\]"):
        plan.collect([])


prefills = st.lists(st.integers(5, 7), min_size=1, max_size=6).map(tuple)


@given(st.dictionaries(st.integers(0, 3), st.dictionaries(st.integers(1, 60), prefills, min_size=1), min_size=1))
def test_every_level_gets_what_scoring_it_alone_would_give(traces: dict[int, dict[int, tuple[int, ...]]]) -> None:
    plan = plan_scoring({k: {n: rendered(*ids) for n, ids in levels.items()} for k, levels in traces.items()})
    assert len({r.token_ids for r in plan.requests}) == len(plan.requests)
    assert len(plan.requests) <= sum(map(len, traces.values()))
    scores = plan.collect(map(score, plan.requests))
    for key, levels in traces.items():
        for level, ids in levels.items():
            alone = score(ScoreRequest(0, (*PROMPT, *ids), len(PROMPT)))
            assert scores[key][level].token_logprobs == alone.logprobs
            assert scores[key][level].logprob_sum == math.fsum(alone.logprobs)
