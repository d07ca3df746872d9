"""The endpoint engine: contract over real HTTP, agreement with engines in process, and every way a server can fail."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from endpoint_server import FakeBackend, ModelBackend, Server
from engine_contract import EngineContract, by_id, request
from transformers import AutoTokenizer

from foreshock.errors import InputError
from foreshock.jobs.engines.base import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    LogprobTemperature,
    ScoreRequest,
)
from foreshock.jobs.engines.endpoint.engine import OpenAIEngine
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.spec import Checkpoint


@pytest.fixture
def checkpoint(tiny: Checkpoint) -> Checkpoint:
    return tiny


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backend(tiny: Checkpoint) -> ModelBackend:
    return ModelBackend(tiny)


@pytest.fixture
def server(tiny: Checkpoint) -> Iterator[Server]:
    with Server(tiny, FakeBackend(tiny)) as running:
        yield running


def connected(server: Server, **options: Any) -> OpenAIEngine:
    """An engine with short waits."""
    settings: dict[str, Any] = {"model": "model", "backoff": 0.002, "timeout": 60.0, "retries": 3, "score_top_k": -1}
    return OpenAIEngine(server.url, **(settings | options))


@pytest.fixture
def engine(server: Server) -> Iterator[OpenAIEngine]:
    with connected(server) as made:
        yield made


class TestContractOverTheFakeEngine(EngineContract):
    pass


class TestContractOverARealModel(EngineContract):
    @pytest.fixture
    def server(self, tiny: Checkpoint, backend: ModelBackend) -> Iterator[Server]:
        with Server(tiny, backend) as running:
            yield running


# -- agreement with the engines in process


def many(n: int, **changes: Any) -> list[GenerationRequest]:
    return [request(i, 5 + 3 * (i % 7), stop_token_ids=(2, 300 + i % 5), **changes) for i in range(n)]


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


# -- chat


@pytest.mark.parametrize(
    ("tokenizer", "format_name"), [("think", "think"), ("think_closed", "think"), ("chat", "chat")]
)
def test_chat_mode_continues_the_very_token_ids_of_the_run(
    make_checkpoint: Callable[..., Checkpoint], tokenizer: str, format_name: str
) -> None:
    checkpoint = make_checkpoint(tokenizer=tokenizer, step=4)
    prompt_format = select_format(format_name, load_tokenizer(checkpoint.path))
    rendered = [prompt_format.render(s, "Add three.", p) for s in (None, "Be brief.") for p in ("", "I see the task")]
    requests = [
        GenerationRequest(
            i,
            r.token_ids,
            seed=i,
            max_tokens=9,
            stop_token_ids=prompt_format.stop_token_ids,
            conversation=r.conversation,
        )
        for i, r in enumerate(rendered)
    ]
    with FakeEngine() as local:
        local.load(checkpoint)
        expected = by_id(list(local.generate(requests)))
    with Server(checkpoint, FakeBackend(checkpoint), completions=False) as server:
        with pytest.raises(InputError, match="mode: chat"), connected(server) as engine:
            engine.load(checkpoint)
        with connected(server, mode="chat") as engine:
            engine.load(checkpoint)
            assert by_id(list(engine.generate(requests))) == expected
            scoring = [ScoreRequest(i, r.token_ids, r.prefill_start, r.conversation) for i, r in enumerate(rendered)]
            scores = list(engine.score([s for s in scoring if s.prefill_start < len(s.token_ids)], 1.0))
            assert all(s.error is None for s in scores)


def test_a_template_that_cannot_be_continued_refuses_the_row(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint(tokenizer="think_closed", step=4)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    always = tokenizer.chat_template.replace("{% if m.reasoning_content %}", "{% if m.role == 'assistant' %}")
    tokenizer.chat_template = always  # as Qwen3's: a think block, closed, before every answer
    tokenizer.save_pretrained(checkpoint.path)
    rendered = select_format("think", load_tokenizer(checkpoint.path)).render(None, "Go", "I")
    with Server(checkpoint, FakeBackend(checkpoint)) as server, connected(server, mode="chat") as engine:
        engine.load(checkpoint)
        asked = GenerationRequest(0, rendered.token_ids, 1, 5, conversation=rendered.conversation)
        (result,) = engine.generate([asked])
    assert "use engine.options.mode: completions" in (result.error or "")


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


# -- judged by behaviour


def test_stop_tokens_that_are_taken_and_not_heeded_are_sent_as_text(tiny: Checkpoint, backend: ModelBackend) -> None:
    requests = [request(i, 12, stop_token_ids=(2, 3), max_tokens=40) for i in range(6)]
    with (
        TransformersEngine(device="cpu") as local,
        Server(tiny, backend, heeds_stop_ids=False, tells_ids=False) as server,
    ):
        local.load(tiny)
        with connected(server) as remote:
            remote.load(tiny)
            assert any("does not heed it" in note for note in remote.notes)
            assert all("stop_token_ids" not in body for body in server.bodies[-1:])
            found = by_id(list(remote.generate(requests)))
            (refused,) = remote.generate([request(9, 12, stop_token_ids=(90,))])
        expected = by_id(list(local.generate(requests)))
    assert "is no control token" in (refused.error or "")
    assert {i: r.text for i, r in found.items()} == {i: r.text for i, r in expected.items()}


MODES = pytest.mark.parametrize("mode", ["completions", "chat"])


def asked(engine: OpenAIEngine, mode: str) -> GenerationRequest:
    """A request that the mode can send: in chat mode it needs the conversation that it was rendered from."""
    if mode == "completions":
        return request(0)
    assert engine._served is not None
    question = engine._served.asked
    return replace(request(0), prompt_token_ids=question.ids, conversation=question.conversation)


@MODES
def test_a_server_whose_ignore_eos_never_ends_a_turn_is_asked_without_it(tiny: Checkpoint, mode: str) -> None:
    served = Server(tiny, FakeBackend(tiny), biases=True, suppresses_eos=True)
    with served as server, connected(server, mode=mode) as engine:
        engine.load(tiny)
        assert any("never ends a turn" in note for note in engine.notes)
        (found,) = engine.generate([asked(engine, mode)])
        assert found.error is None
        assert "ignore_eos" not in server.bodies[-1]


@MODES
def test_a_right_server_is_believed_once_it_was_forced(tiny: Checkpoint, mode: str) -> None:
    with Server(tiny, FakeBackend(tiny), biases=True) as server, connected(server, mode=mode) as engine:
        engine.load(tiny)
        assert engine.notes == []


@MODES
def test_a_server_that_stops_nowhere_is_refused(tiny: Checkpoint, mode: str) -> None:
    deaf = _Deaf(tiny)
    told = pytest.raises(InputError, match="does not stop where it is told")
    served = Server(tiny, deaf, heeds_stop_ids=False, tells_ids=False)
    with served as server, connected(server, mode=mode) as engine, told:
        engine.load(tiny)


def test_a_server_that_renders_a_conversation_in_another_way_is_told_at_load(tiny: Checkpoint) -> None:
    served = Server(tiny, FakeBackend(tiny), changes_prompt=lambda ids: [*ids, 2])  # ends the message, as many do
    with served as server, connected(server, mode="chat") as engine:
        engine.load(tiny)
        assert any("of a message to be continued the server read other token ids" in note for note in engine.notes)
        (found,) = engine.generate([asked(engine, "chat")])
    assert "other token ids than the run's own" in (found.error or "")


def test_a_server_that_repeats_the_message_and_tells_no_ids_is_refused(tiny: Checkpoint) -> None:
    served = Server(tiny, FakeBackend(tiny), repeats_message=True, tells_ids=False)
    told = pytest.raises(InputError, match="repeats the message that it continues")
    with served as server, connected(server, mode="chat") as engine, told:
        engine.load(tiny)


def test_chat_mode_without_a_template_that_begins_a_message_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = Checkpoint("run", tiny.step, Path(shutil.copytree(tiny.path, tmp_path / tiny.path.name)))
    (point.path / "chat_template.jinja").unlink()
    told = pytest.raises(InputError, match="needs a chat template that begins an assistant's message")
    with Server(point, FakeBackend(point)) as server, connected(server, mode="chat") as engine, told:
        engine.load(point)


class _Deaf(FakeBackend):
    def generate(self, request: GenerationRequest) -> GenerationResult:
        return super().generate(replace(request, stop=(), stop_token_ids=()))


@MODES
@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_scores_that_contradict_what_the_server_draws_by_are_refused(
    tiny: Checkpoint, backend: ModelBackend, mode: str, wrong: float
) -> None:
    with Server(tiny, backend, score_error=wrong, echo=False) as server, connected(server, mode=mode) as engine:
        engine.load(tiny)
        problem = engine.scoring_problem(1.0)
    assert (problem is None) if wrong == 0 else ("or not those that it draws by" in str(problem))


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


def test_ids_beside_log_probabilities_are_read_where_the_text_leaves_control_tokens_out(
    tiny: Checkpoint, backend: ModelBackend
) -> None:
    """llama.cpp's server, as it was seen to answer."""
    requests = [
        request(i, 5 + 9 * i, temperature=0.0, stop_token_ids=(2, 50 + i), stop=(" t",) if i % 2 else ())
        for i in range(8)
    ]
    served = Server(tiny, backend, tells_ids=False, ids_by_logprobs=True, heeds_stop_ids=False, max_model_len=96)
    with served as server, OpenAIEngine(server.url, model="model") as engine, TransformersEngine(device="cpu") as local:
        engine.load(tiny)
        local.load(tiny)
        assert any("cut where they are drawn" in note for note in engine.notes)
        assert by_id(list(engine.generate(requests))) == by_id(list(local.generate(requests)))
        (long,) = engine.generate([request(0, 97, temperature=0.0)])
        assert "do not fit the model's context of 96" in str(long.error)
        server.partial_characters = True
        (part,) = engine.generate(requests[:1])
        assert "part of a character" in str(part.error)


def test_a_server_that_takes_texts_alone_is_refused_with_the_reason(tiny: Checkpoint) -> None:
    """transformers serve: it reads texts with special tokens of its own, and answers without control tokens."""
    served = Server(tiny, FakeBackend(tiny), takes_texts_alone=True)
    with served as server, OpenAIEngine(server.url, model="model") as engine, pytest.raises(InputError) as caught:
        engine.load(tiny)
    assert "prompt must be a string" in str(caught.value)
    assert "transformers serve" in str(caught.value)


def test_the_servers_context_is_known_when_a_run_is_planned(tiny: Checkpoint) -> None:
    ask = ENGINES.get("openai").served_context
    assert ask is not None
    with Server(tiny, FakeBackend(tiny), max_model_len=96) as server:
        assert ask(tiny, {"base_url": server.url, "model": "model"}) == 96
        assert ask(tiny, {"base_url": server.url, "model": "another"}) is None
        gone = server.url
    assert ask(tiny, {"base_url": gone}) is None
