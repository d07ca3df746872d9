"""The endpoint engine: contract over real HTTP, agreement with engines in process, and what is sent to a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from connected_endpoint import connected, many
from endpoint_server import FakeBackend, ModelBackend, Server
from engine_contract import EngineContract, by_id, request

from foreshock.jobs.engines.base import (
    FinishReason,
    LogprobTemperature,
    ScoreRequest,
)
from foreshock.jobs.engines.endpoint.engine import OpenAIEngine
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.records.spec import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


class TestContractOverTheFakeEngine(EngineContract):
    pass


class TestContractOverARealModel(EngineContract):
    @pytest.fixture
    def server(self, tiny: Checkpoint, backend: ModelBackend) -> Iterator[Server]:
        with Server(tiny, backend) as running:
            yield running


# -- agreement with the engines in process


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_served_run_equals_an_in_process_run_row_for_row(
    tiny: Checkpoint, backend: ModelBackend, temperature: float
) -> None:
    requests = many(12, temperature=temperature, top_p=0.9)
    with TransformersEngine(device="cpu") as local, Server(tiny, backend) as server, connected(server) as remote:
        local.load(tiny)
        remote.load(tiny)
        assert by_id(list(remote.generate(requests))) == by_id(list(local.generate(requests)))


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 20), (0.6, -1), (1.4, -1)])
def test_scores_equal_the_transformers_engines(
    tiny: Checkpoint, backend: ModelBackend, temperature: float, top_k: int
) -> None:
    requests = [ScoreRequest(i, request(i, 20 + i).prompt_token_ids, 6) for i in range(5)]
    with TransformersEngine(device="cpu") as local, Server(tiny, backend) as server:
        local.load(tiny)
        with connected(server, score_top_k=top_k) as remote:
            remote.load(tiny)
            found = {r.request_id: r for r in remote.score(requests, temperature)}
        for expected in local.score(requests, temperature):
            assert found[expected.request_id].logprobs == pytest.approx(expected.logprobs, abs=1e-3)
            assert found[expected.request_id].method == LogprobTemperature.FULL_SOFTMAX


def test_echoed_scores_serve_temperature_1_and_no_other(tiny: Checkpoint, backend: ModelBackend) -> None:
    scoring = [ScoreRequest(0, request(0, 20).prompt_token_ids, 6)]
    with TransformersEngine(device="cpu") as local, Server(tiny, backend, prompt_logprobs=False) as server:
        local.load(tiny)
        with connected(server) as remote:
            remote.load(tiny)
            (found,) = remote.score(scoring, 1.0)
            (refused,) = remote.score(scoring, 0.7)
        (expected,) = local.score(scoring, 1.0)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
    assert "at temperature 1 only, and the run samples at 0.7" in (refused.error or "")


def test_a_server_without_prompt_logprobs_gives_every_row_that_error(tiny: Checkpoint) -> None:
    with (
        Server(tiny, FakeBackend(tiny), prompt_logprobs=False, echo=False) as server,
        connected(server) as engine,
    ):
        engine.load(tiny)
        scoring = [ScoreRequest(i, tuple(range(10, 30)), 5) for i in range(3)]
        results = list(engine.score(scoring, 1.0))
        assert {r.request_id for r in results} == {0, 1, 2}
        assert all("gives no log-probabilities of a prompt" in (r.error or "") for r in results)
        assert server.counts["completions"] <= 6  # found out once, not once a row


def test_a_score_that_the_likeliest_tokens_do_not_settle_is_refused(tiny: Checkpoint, backend: ModelBackend) -> None:
    scoring = [ScoreRequest(0, request(0, 20).prompt_token_ids, 6)]
    with Server(tiny, backend) as server:
        with connected(server, score_top_k=2) as engine:
            engine.load(tiny)
            (refused,) = engine.score(scoring, 0.6)
        with connected(server, score_top_k=2, max_uncertainty=50.0) as engine:
            engine.load(tiny)
            (loose,) = engine.score(scoring, 0.6)
    assert "the 2 likeliest tokens settle log P at temperature 0.6 only to" in (refused.error or "")
    assert refused.logprobs == ()
    assert loose.method == LogprobTemperature.TOP_K


def test_logits_in_place_of_log_probabilities_are_refused(server: Server, tiny: Checkpoint) -> None:
    with connected(server) as engine:
        engine.load(tiny)
        original = server.backend.logprobs
        (good,) = engine.score([ScoreRequest(0, tuple(range(10, 20)), 5)], 1.0)
        server.backend.logprobs = lambda ids: [[v + 9 for v in row] for row in original(ids)]  # a server in logits mode
        (bad,) = engine.score([ScoreRequest(0, tuple(range(10, 20)), 5)], 1.0)
    assert good.error is None
    assert "no log-probabilities" in (bad.error or "")


# -- what is sent


def test_everything_that_decides_the_draws_is_said_in_full(
    server: Server, engine: OpenAIEngine, tiny: Checkpoint
) -> None:
    engine.load(tiny)
    list(engine.generate([request(3, 9, seed=2**62 + 5, temperature=0.7, top_p=0.9, stop_token_ids=(2, 7))]))
    sent = server.bodies[-1]
    assert sent["prompt"] == list(request(3, 9).prompt_token_ids)
    wanted = {"seed": 2**62 + 5, "temperature": 0.7, "top_p": 0.9, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    wanted |= {"stop_token_ids": [2, 7], "ignore_eos": True, "skip_special_tokens": False, "add_special_tokens": False}
    assert {key: sent[key] for key in wanted} == wanted


def test_scoring_requests_never_share_cached_positions(server: Server, engine: OpenAIEngine, tiny: Checkpoint) -> None:
    engine.load(tiny)
    list(engine.score([ScoreRequest(i, tuple(range(10, 30)), 5) for i in range(4)], 1.0))
    salts = [body["cache_salt"] for body in server.bodies if "cache_salt" in body]
    assert len(set(salts)) == len(salts) >= 4


def test_the_limit_ends_at_the_servers_context(tiny: Checkpoint) -> None:
    with Server(tiny, FakeBackend(tiny), max_model_len=30) as server, connected(server) as engine:
        engine.load(tiny)
        fits, full = list(engine.generate([request(0, 12, max_tokens=500), request(1, 30)]))
        by = by_id([fits, full])
        assert len(by[0].token_ids) == 18
        assert by[0].finish_reason is FinishReason.LENGTH
        assert "30 tokens do not fit the model's context of 30" in (by[1].error or "")


def test_no_more_requests_are_in_flight_than_asked_for(tiny: Checkpoint) -> None:
    with (
        Server(tiny, FakeBackend(tiny), delay_s=lambda body: 0.01) as server,
        connected(server, concurrency=3) as engine,
    ):
        engine.load(tiny)
        assert len(list(engine.generate(many(30)))) == 30
        assert 2 <= server.most_in_flight <= 4  # and one look at the served model


def test_short_ones_come_back_while_long_ones_run(tiny: Checkpoint) -> None:
    def wait(body: dict[str, Any]) -> float:
        return 2.0 if body.get("max_tokens", 0) > 100 else 0.0

    with Server(tiny, FakeBackend(tiny), delay_s=wait) as server, connected(server, concurrency=4) as engine:
        engine.load(tiny)
        order = [
            r.request_id for r in engine.generate([request(i, 8, max_tokens=5 + 200 * (i < 2)) for i in range(12)])
        ]
        assert set(order[-2:]) == {0, 1}


def test_leaving_early_and_a_stop_cancel_what_is_in_flight(tiny: Checkpoint) -> None:
    with (
        Server(tiny, FakeBackend(tiny), delay_s=lambda body: 0.0 if body.get("max_tokens", 9) <= 6 else 2.5) as server,
        connected(server, concurrency=4) as engine,
    ):
        engine.load(tiny)
        started = time.monotonic()
        assert list(engine.generate(many(40), stop=lambda: time.monotonic() - started > 0.2)) == []
        assert time.monotonic() - started < 2.0
        assert server.counts["completions"] <= 4 + 4


# -- other prompts, other servers


@pytest.mark.parametrize("tells_ids", [True, False])
def test_a_prompt_that_arrives_changed_is_an_error_not_a_row(tiny: Checkpoint, tells_ids: bool) -> None:
    with Server(tiny, FakeBackend(tiny), tells_ids=tells_ids) as server, connected(server) as engine:
        engine.load(tiny)
        server.changes_prompt = lambda ids: ids[1:] if len(ids) == 12 else ids  # a server that truncates
        cut, whole = (by_id(list(engine.generate([request(0, 12), request(1, 9)])))[i] for i in (0, 1))
        assert "11" in (cut.error or "")
        assert "12" in (cut.error or "")
        assert whole.error is None


def test_a_server_of_the_plain_protocol_works_and_its_gaps_are_said(
    tiny: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(tiny, FakeBackend(tiny), wide=False, tells_ids=False) as server, connected(server) as engine:
        engine.load(tiny)
        (result,) = engine.generate([request(0, 9, max_tokens=40, stop_token_ids=(2,))])
        assert result.error is None
        assert result.text
        assert "stop_token_ids" not in server.bodies[-1]
    assert "only their number can be compared" in caplog.text
    assert "no token ids" in caplog.text


def test_as_many_likeliest_tokens_are_asked_for_as_settle_a_score(tiny: Checkpoint, backend: ModelBackend) -> None:
    scoring = [ScoreRequest(0, request(0, 20).prompt_token_ids, 6)]
    with TransformersEngine(device="cpu") as local, Server(tiny, backend) as server:
        local.load(tiny)
        with connected(server, score_top_k=None) as remote:
            remote.load(tiny)
            assert remote.scoring_problem(0.6) is None
            (found,) = remote.score(scoring, 0.6)
            server.most_logprobs = 20
            (refused,) = remote.score(scoring, 1.4)
        (expected,) = local.score(scoring, 0.6)
    assert found.logprobs == pytest.approx(expected.logprobs, abs=0.02)
    assert "settle log P at temperature 1.4 only to" in (refused.error or "")


def test_a_row_drawn_from_logits_that_are_not_finite_is_an_error(tiny: Checkpoint) -> None:
    with Server(tiny, FakeBackend(tiny)) as server, connected(server) as engine:
        engine.load(tiny)
        server.not_finite = True
        (found,) = engine.generate([request(0)])
    assert found.error == "the model's logits are not finite"


def test_the_servers_context_is_known_when_a_run_is_planned(tiny: Checkpoint) -> None:
    ask = ENGINES.get("openai").served_context
    assert ask is not None
    with Server(tiny, FakeBackend(tiny), max_model_len=96) as server:
        assert ask(tiny, {"base_url": server.url, "model": "model"}) == 96
        assert ask(tiny, {"base_url": server.url, "model": "another"}) is None
        gone = server.url
    assert ask(tiny, {"base_url": gone}) is None
