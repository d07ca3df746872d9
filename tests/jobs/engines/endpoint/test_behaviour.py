"""Servers are judged when they are loaded by what they do, and refused or asked otherwise by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from connected_endpoint import connected
from endpoint_server import FakeBackend, ModelBackend, Server
from engine_contract import by_id, request

from foreshock.errors import InputError
from foreshock.jobs.engines.base import (
    GenerationRequest,
    GenerationResult,
)
from foreshock.jobs.engines.endpoint.engine import OpenAIEngine
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.records.spec import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


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
