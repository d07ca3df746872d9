"""The endpoint engine when the server misbehaves: no row is wrong, none is lost, and no key is shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_server import FAULTS, FakeBackend, Server
from engine_contract import by_id, request

from foreshock.errors import InputError
from foreshock.jobs.engines.base import GenerationRequest, GenerationResult, ScoreRequest
from foreshock.jobs.engines.endpoint.engine import EndpointError, OpenAIEngine
from foreshock.jobs.engines.endpoint.http import AccessError, WrongModelError
from foreshock.jobs.records.spec import Checkpoint

KEY = "very-secret-value-31"


@pytest.fixture
def server(tiny: Checkpoint) -> Iterator[Server]:
    with Server(tiny, FakeBackend(tiny)) as running:
        yield running


def connected(server: Server, **options: Any) -> OpenAIEngine:
    settings: dict[str, Any] = {"model": "model", "backoff": 0.002, "timeout": 60.0, "retries": 4, "score_top_k": -1}
    return OpenAIEngine(server.url, **(settings | options))


def patience(fault: str) -> dict[str, float]:
    """A hanging server's second is waited for in vain; any other fault shows at once, however slow the machine is."""
    return {"timeout": 0.6} if fault == "hang" else {}


def many(n: int) -> list[GenerationRequest]:
    return [request(i, 5 + 3 * (i % 7)) for i in range(n)]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_survived_and_no_row_differs(server: Server, tiny: Checkpoint, fault: str) -> None:
    scoring = [ScoreRequest(i, request(i, 20 + i).prompt_token_ids, 6) for i in range(4)]
    with connected(server, concurrency=8, retries=8, **patience(fault)) as engine:
        engine.load(tiny)
        rows, scores = by_id(list(engine.generate(many(20)))), list(engine.score(scoring, 1.0))
        server.faults = lambda path, n: fault if n % 4 == 1 else None  # models are asked for as well
        assert by_id(list(engine.generate(many(20)))) == rows
        again = list(engine.score(scoring, 1.0))
        assert sorted(again, key=lambda r: r.request_id) == sorted(scores, key=lambda r: r.request_id)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_without_end_gives_error_rows_and_the_next_try_succeeds(
    server: Server, tiny: Checkpoint, fault: str
) -> None:
    with connected(server) as engine:
        engine.load(tiny)
        expected = by_id(list(engine.generate(many(6))))
    with connected(server, retries=1, concurrency=6, **patience(fault)) as engine:
        engine.load(tiny)
        server.faults = lambda path, n: fault if path == "completions" else None
        failed = by_id(list(engine.generate(many(6))))
        assert set(failed) == set(expected)
        assert all("no answer after 2 tries" in (r.error or "") and r.token_ids == () for r in failed.values())
    server.faults = lambda path, n: None
    with connected(server) as engine:
        engine.load(tiny)
        assert by_id(list(engine.generate(many(6)))) == expected


def test_the_pause_that_a_server_asks_for_is_kept(server: Server, tiny: Checkpoint) -> None:
    with connected(server) as engine:
        engine.load(tiny)
        server.retry_after = "0.6"
        server.faults = lambda path, n: "429" if n == 1 else None
        started = time.monotonic()
        (result,) = engine.generate(many(1))
        assert result.error is None
        assert time.monotonic() - started > 0.6


def test_a_dead_server_is_given_up_once_not_row_by_row(server: Server, tiny: Checkpoint) -> None:
    with connected(server, concurrency=4) as engine:
        engine.load(tiny)
        server.stop()
        asked = engine._loaded().client.requests
        results = list(engine.generate(many(200)))
        assert len(results) == 200
        assert all(r.error for r in results)
        assert engine._loaded().client.requests - asked < 4 * 5 + 10


def test_a_server_that_dies_and_returns_in_a_run_costs_nothing(server: Server, tiny: Checkpoint) -> None:
    with connected(server, concurrency=4, retries=8, backoff=0.05) as engine:
        engine.load(tiny)
        expected = by_id(list(engine.generate(many(40))))
        port = server.port
        got: list[GenerationResult] = []
        server.delay_s = lambda body: 0.02
        for result in engine.generate(many(40)):
            got.append(result)
            if len(got) == 4:
                server.stop()
                threading.Timer(0.2, server.start, (port,)).start()
        assert by_id(got) == expected


# -- the wrong model


def test_a_server_of_another_model_is_refused_at_once(server: Server, tiny: Checkpoint, tmp_path: Path) -> None:
    with connected(server, model="checkpoint-90") as engine:
        with pytest.raises(WrongModelError, match=r"lists 'model', and none is 'checkpoint-90'\n  -> serve it"):
            engine.load(tiny)
        with pytest.raises(RuntimeError, match="load"):
            list(engine.generate(many(1)))


@pytest.mark.parametrize("how", ["path", "run and name", "name", "root"])
def test_without_a_name_the_checkpoint_is_found_by_its_directory_or_name(
    server: Server, tiny: Checkpoint, how: str
) -> None:
    names = {"path": str(tiny.path), "run and name": "run/checkpoint-1", "name": "checkpoint-1", "root": "anything"}
    server.served = names[how]
    server.root = str(tiny.path) if how == "root" else None
    with connected(server, model=None) as engine:
        engine.load(tiny)
        assert next(engine.generate(many(1))).error is None


def test_names_and_urls_take_placeholders(server: Server, tiny: Checkpoint) -> None:
    server.served = "sft/run/1/checkpoint-1"
    with connected(server, model="sft/{run}/{step}/{name}") as engine:
        engine.load(tiny)


def test_weights_that_the_server_loaded_from_another_directory_are_told_by_fingerprint(
    server: Server, tiny: Checkpoint, make_checkpoint: Any
) -> None:
    other, copy = make_checkpoint(step=1, seed=5), make_checkpoint(step=1, seed=0)
    with connected(server) as engine:
        server.root = str(copy.path)
        engine.load(tiny)  # the same weights elsewhere
        server.root = str(other.path)
        with pytest.raises(WrongModelError, match="which is not"):
            engine.load(tiny)
        server.root = "/not/visible/from/here/checkpoint-80"
        with pytest.raises(WrongModelError, match="checkpoint-80"):
            engine.load(tiny)


@pytest.mark.parametrize("change", ["name", "root", "weights after a fault", "answer"])
def test_a_model_exchanged_in_a_run_ends_it_before_a_wrong_row(server: Server, tiny: Checkpoint, change: str) -> None:
    other = Checkpoint("run", 99, tiny.path)  # the fake engine answers by name
    with connected(server, concurrency=2, retries=2) as engine:
        engine.load(tiny)
        right = by_id(list(engine.generate(many(60))))
        server.delay_s = lambda body: 0.02
        got: list[GenerationResult] = []

        def exchange() -> None:
            if change == "name":
                server.served = "other"
            elif change == "root":
                server.root = "/elsewhere"
            elif change == "answer":
                server.answers_as = "other"
            else:
                broken = server.counts["completions"] + 2
                server.faults = lambda path, n: "drop" if path == "completions" and n < broken else None
            server.backend = FakeBackend(other)

        def collect() -> None:
            for result in engine.generate(many(60)):
                got.append(result)
                if len(got) == 3:
                    exchange()

        with pytest.raises(WrongModelError):
            collect()
        assert len(got) < 60
        assert all(result == right[result.request_id] for result in got)


def test_weights_exchanged_without_a_sign_are_found_by_the_probe(server: Server, tiny: Checkpoint) -> None:
    with connected(server, identity_interval=0.0) as engine:
        engine.load(tiny)
        server.backend = FakeBackend(Checkpoint("run", 99, tiny.path))
        with pytest.raises(WrongModelError, match=r"another model answers under the name 'model': a probe's"):
            list(engine.generate(many(3)))


# -- keys and settings


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(
    server: Server, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.key = KEY
    with connected(server, api_key_env="MY_ENDPOINT") as engine:
        monkeypatch.delenv("MY_ENDPOINT", raising=False)
        with pytest.raises(AccessError, match="refused a request without an API key"):
            engine.load(tiny)
        monkeypatch.setenv("MY_ENDPOINT", "wrong" + KEY)
        with pytest.raises(AccessError, match="refused the API key") as refused:
            engine.load(tiny)
        monkeypatch.setenv("MY_ENDPOINT", KEY)
        engine.load(tiny)
        server.faults = lambda path, n: "500" if path == "completions" else None  # its message repeats the key
        (failed,) = engine.generate(many(1))
        assert "your key is <removed>" in (failed.error or "")
        seen = [str(refused.value), str(failed), repr(engine.__dict__), repr(engine._loaded().client), caplog.text]
        assert KEY not in "".join(seen)


def test_a_key_refused_in_a_run_ends_it(server: Server, tiny: Checkpoint) -> None:
    with connected(server) as engine:
        engine.load(tiny)
        server.key = KEY
        with pytest.raises(AccessError, match="api_key_env"):
            list(engine.generate(many(5)))


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x/v1", "http://user:secret1@host/v1", "http://host/v1?key=secret1"]
)
def test_addresses_that_cannot_be_meant_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="it must be like http://host:8000/v1") as refused:
        OpenAIEngine(url)
    assert "secret1" not in str(refused.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("mode", "responses"), ("concurrency", 0), ("retries", -1), ("timeout", 0), ("score_top_k", 0)],
)
def test_settings_out_of_range_name_the_valid_ones(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        OpenAIEngine("http://localhost:1/v1", **{option: value})


def test_a_server_that_is_not_there_says_how_to_look(tiny: Checkpoint) -> None:
    with (
        OpenAIEngine("http://127.0.0.1:9/v1", retries=1, backoff=0.001) as engine,
        pytest.raises(EndpointError, match=r"curl http://127.0.0.1:9/v1/models"),
    ):
        engine.load(tiny)
