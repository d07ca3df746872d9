"""What every engine must do. A subclass named Test... provides the `engine` and `checkpoint` fixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from foreshock.errors import InputError
from foreshock.jobs.engines.base import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    ScoreRequest,
)
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.spec import EngineSpec
from foreshock.jobs.records.spec import Checkpoint


def request(request_id: int, length: int = 12, **changes: Any) -> GenerationRequest:
    """A request with a prompt of ordinary tokens that differs with its length."""
    prompt = tuple(10 + (7 * i + length) % 200 for i in range(length))
    values: dict[str, Any] = {
        "request_id": request_id,
        "prompt_token_ids": prompt,
        "seed": 1000 + request_id,
        "max_tokens": 20,
    }
    return GenerationRequest(**(values | changes))


def by_id(results: Sequence[GenerationResult]) -> dict[int, GenerationResult]:
    """Results by request id, each exactly once."""
    found = {result.request_id: result for result in results}
    assert len(found) == len(results)
    return found


class EngineContract:
    """Tests over the fixtures `engine` (nothing loaded) and `checkpoint`."""

    def test_refuses_to_generate_or_score_before_a_load(self, engine: Any) -> None:
        with pytest.raises(RuntimeError, match="load"):
            list(engine.generate([request(0)]))
        with pytest.raises(RuntimeError, match="load"):
            list(engine.score([ScoreRequest(0, (1, 2), 1)], 1.0))

    def test_every_request_comes_back_once(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        requests = [request(i, 5 + 3 * (i % 4)) for i in (9, 3, 7, 1, 20, 4)]
        results = by_id(list(engine.generate(requests)))
        assert set(results) == {r.request_id for r in requests}
        assert all(r.error is None and r.finish_reason is not FinishReason.ERROR for r in results.values())

    def test_no_requests_give_no_results(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        assert list(engine.generate([])) == []
        assert list(engine.score([], 1.0)) == []

    def test_seeds_alone_decide_the_draws(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        requests = [request(i, 5 + 3 * (i % 4)) for i in range(12)]
        first = by_id(list(engine.generate(requests)))
        again = by_id(list(engine.generate(list(reversed(requests)))))
        assert first == again
        alone = by_id(list(engine.generate(requests[4:5])))
        assert alone[4] == first[4]

    def test_different_seeds_give_different_continuations(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        results = by_id(list(engine.generate([request(i) for i in range(8)])))
        assert len({result.token_ids for result in results.values()}) > 1

    def test_greedy_decoding_ignores_the_seed(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        results = list(engine.generate([request(i, temperature=0.0) for i in range(4)]))
        assert len({result.token_ids for result in results}) == 1

    @pytest.mark.parametrize("limit", [0, 1, 7])
    def test_max_tokens_limits_the_continuation(self, engine: Any, checkpoint: Checkpoint, limit: int) -> None:
        engine.load(checkpoint)
        for result in engine.generate([request(i, max_tokens=limit) for i in range(5)]):
            assert len(result.token_ids) == limit
            assert result.finish_reason is FinishReason.LENGTH

    def test_a_shorter_limit_gives_a_prefix(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        long = by_id(list(engine.generate([request(i, max_tokens=20) for i in range(5)])))
        short = by_id(list(engine.generate([request(i, max_tokens=6) for i in range(5)])))
        for i in range(5):
            assert short[i].token_ids == long[i].token_ids[:6]

    def test_a_stop_token_ends_the_continuation_and_is_left_out(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        free = by_id(list(engine.generate([request(i) for i in range(6)])))
        for i in range(6):
            stop = free[i].token_ids[4]
            stopped = next(iter(engine.generate([request(i, stop_token_ids=(1, stop))])))
            expected = free[i].token_ids[: free[i].token_ids.index(stop)]
            assert stopped.token_ids[: len(expected)] == expected
            assert stop not in stopped.token_ids
            assert stopped.finish_reason is FinishReason.STOP

    def test_a_stop_string_ends_the_continuation_before_it(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        free = by_id(list(engine.generate([request(i) for i in range(6)])))
        for i, result in free.items():
            readable = max(result.text.split("\N{REPLACEMENT CHARACTER}"), key=len)
            string = readable[len(readable) // 3 :][:3]
            stopped = next(iter(engine.generate([request(i, stop=("no such text", string))])))
            assert stopped.error is None
            assert stopped.text == result.text[: result.text.index(string)]
            assert stopped.token_ids == result.token_ids[: len(stopped.token_ids)]
            assert stopped.finish_reason is FinishReason.STOP

    def test_a_bad_request_fails_alone(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        good = [request(0), request(1)]
        alone = by_id(list(engine.generate(good)))
        mixed = by_id(list(engine.generate([good[0], request(5, prompt_token_ids=()), good[1]])))
        assert mixed[5].finish_reason is FinishReason.ERROR
        assert "no tokens" in (mixed[5].error or "")
        assert {0: mixed[0], 1: mixed[1]} == alone

    def test_scores_are_log_probabilities_of_the_prefill_tokens(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        ids = request(0, 30).prompt_token_ids
        (result,) = engine.score([ScoreRequest(8, ids, 10)], 1.0)
        assert result.request_id == 8
        assert result.prefill_start == 10
        assert len(result.logprobs) == 20
        assert all(value <= 0 for value in result.logprobs)

    def test_scores_of_a_prefix_are_a_prefix_of_the_scores(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        assert engine.covers(25, 40)  # else they are scored separately
        ids = request(0, 40).prompt_token_ids
        long, short = list(engine.score([ScoreRequest(0, ids, 10), ScoreRequest(1, ids[:25], 10)], 0.7))
        if long.request_id == 1:
            long, short = short, long
        assert short.logprobs == pytest.approx(long.logprobs[:15], abs=1e-5)

    def test_a_prompt_covers_itself(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        assert engine.covers(20, 20)

    def test_an_empty_prefill_is_an_error_not_a_zero(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        (result,) = engine.score([ScoreRequest(0, (11, 12, 13), 3)], 1.0)
        assert "leaves no prefill" in (result.error or "")
        assert result.logprobs == ()

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_scoring_needs_a_positive_temperature(
        self, engine: Any, checkpoint: Checkpoint, temperature: float
    ) -> None:
        engine.load(checkpoint)
        with pytest.raises(ValueError, match="temperature"):
            list(engine.score([ScoreRequest(0, (11, 12), 1)], temperature))

    def test_closes_as_a_context_manager(self, engine: Any, checkpoint: Checkpoint) -> None:
        with engine as opened:
            opened.load(checkpoint)
        with pytest.raises(RuntimeError, match="load"):
            list(engine.generate([request(0)]))


class EngineSpecContract:
    """Inherit, and provide the fixture `spec`; `options` where the engine cannot be made without."""

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """Options to build with: none."""
        return {}

    def test_its_name_finds_it(self, spec: EngineSpec) -> None:
        assert ENGINES.get(spec.name) is spec
        assert spec.summary

    def test_it_builds_an_engine_of_its_name_that_has_loaded_nothing(
        self, spec: EngineSpec, options: Mapping[str, Any]
    ) -> None:
        with spec.build()(**options) as engine:
            assert engine.name == spec.name

    def test_the_options_it_speaks_of_are_there(self, spec: EngineSpec) -> None:
        named = {*spec.halved, *filter(None, (spec.batch_option, spec.gpus_option))}
        if spec.on_device:
            named |= {"device", "dtype", "threads"}
        assert named <= set(spec.options() or ())

    def test_an_option_that_it_does_not_have_is_refused_by_name(self, spec: EngineSpec) -> None:
        with pytest.raises(InputError, match=r"has no option 'no_such_option'; valid: "):
            spec.require_options(["no_such_option"])
