"""The endpoint engine against `vllm serve` itself: the rows of the transformers engine, over HTTP.

One server start takes tens of seconds, so all tests share it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_contract import by_id, request

from foreshock.jobs.engines.base import FinishReason, GenerationRequest, LogprobTemperature, ScoreRequest
from foreshock.jobs.engines.endpoint.engine import OpenAIEngine
from foreshock.jobs.engines.endpoint.http import WrongModelError
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm-serve")]


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    return make_checkpoint(head_dim=32)  # vLLM's CPU kernels have no smaller heads


@pytest.fixture(scope="module")
def served(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`vllm serve` of the checkpoint under another name, with its own defaults for sampling in the way."""
    (checkpoint.path / "generation_config.json").write_text(
        '{"top_k": 1, "repetition_penalty": 1.5, "eos_token_id": 0}'
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(checkpoint.path),
        "--port",
        str(port),
    ]
    command += ["--host", "127.0.0.1", "--served-model-name", "policy", "--enforce-eager", "--dtype", "float32"]
    command += ["--max-num-seqs", "16", "--max-logprobs", "500", "--kv-cache-memory-bytes", str(2**28)]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield f"{url}/v1", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def local(checkpoint: Checkpoint) -> Iterator[TransformersEngine]:
    with TransformersEngine(device="cpu") as engine:
        engine.load(checkpoint)
        yield engine


@pytest.fixture
def remote(served: tuple[str, Any], checkpoint: Checkpoint) -> Iterator[OpenAIEngine]:
    with OpenAIEngine(served[0], concurrency=8, score_top_k=-1) as engine:  # no name: found by its directory
        engine.load(checkpoint)
        yield engine


def test_everything_can_be_verified(remote: OpenAIEngine) -> None:
    assert remote.notes == []


def test_greedy_continuations_are_those_of_the_transformers_engine(
    remote: OpenAIEngine, local: TransformersEngine
) -> None:
    requests = [request(i, 5 + 9 * i, temperature=0.0, stop_token_ids=(2, 50 + i)) for i in range(12)]
    assert by_id(list(remote.generate(requests))) == by_id(list(local.generate(requests)))


def test_a_stop_token_ends_a_continuation_and_the_end_of_text_does_not_unless_asked(
    remote: OpenAIEngine, local: TransformersEngine
) -> None:
    (free,) = local.generate([request(0, 20, temperature=0.0, max_tokens=40)])
    stop = free.token_ids[5]
    for stops in ((), (stop,)):
        asked = request(0, 20, temperature=0.0, max_tokens=40, stop_token_ids=stops)
        (here,), (there,) = local.generate([asked]), remote.generate([asked])
        assert here == there
    assert there.finish_reason is FinishReason.STOP


def test_seeds_decide_the_draws_and_the_servers_own_defaults_do_not(remote: OpenAIEngine) -> None:
    first = by_id(list(remote.generate([request(i, 12, seed=2**62 + i) for i in range(8)])))
    again = by_id(list(remote.generate([request(i, 12, seed=2**62 + i) for i in range(8)])))
    assert first == again
    assert len({result.token_ids for result in first.values()}) == 8  # top_k 1 would make them equal


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.5])
def test_prefill_log_probabilities_are_those_of_the_transformers_engine(
    remote: OpenAIEngine, local: TransformersEngine, temperature: float
) -> None:
    ids = request(0, 60).prompt_token_ids
    scoring = [ScoreRequest(i, ids[: 20 + 8 * i], 10) for i in range(5)]
    list(remote.generate([GenerationRequest(0, ids, 1, 3)]))  # fills the prefix cache
    found = {r.request_id: r for r in remote.score(scoring, temperature)}
    for expected in local.score(scoring, temperature):
        result = found[expected.request_id]
        assert result.method is LogprobTemperature.FULL_SOFTMAX
        assert result.logprobs == pytest.approx(expected.logprobs, abs=1e-3)


def test_the_likeliest_tokens_settle_a_score_within_their_bound(
    served: tuple[str, Any], checkpoint: Checkpoint, local: TransformersEngine
) -> None:
    scoring = [ScoreRequest(0, request(0, 40).prompt_token_ids, 10)]
    with OpenAIEngine(served[0], score_top_k=100, max_uncertainty=0.1) as engine:
        engine.load(checkpoint)
        (found,) = engine.score(scoring, 0.6)
    (expected,) = local.score(scoring, 0.6)
    assert found.error is None
    assert found.method is LogprobTemperature.TOP_K
    assert sum(found.logprobs) == pytest.approx(sum(expected.logprobs), abs=0.1 * 30)


def test_chat_mode_reads_the_same_token_ids(served: tuple[str, Any], checkpoint: Checkpoint) -> None:
    prompt_format = select_format("think", load_tokenizer(checkpoint.path))
    rendered = [prompt_format.render(s, "Add three.", p) for s in (None, "Be brief.") for p in ("", "I see the task")]
    requests = [
        GenerationRequest(i, r.token_ids, i, 9, 0.0, conversation=r.conversation) for i, r in enumerate(rendered)
    ]
    results = {}
    for mode in ("completions", "chat"):
        with OpenAIEngine(served[0], mode=mode) as engine:
            engine.load(checkpoint)
            results[mode] = by_id(list(engine.generate(requests)))
            scoring = [ScoreRequest(i, r.token_ids, r.prefill_start, r.conversation) for i, r in enumerate(rendered)]
            assert all(s.error is None for s in engine.score(scoring[1::2], 1.0))
    assert results["chat"] == results["completions"]
    assert all(r.error is None for r in results["chat"].values())


def test_another_checkpoint_is_refused(served: tuple[str, Any], make_checkpoint: Callable[..., Checkpoint]) -> None:
    other = make_checkpoint(step=2, seed=9, head_dim=32)
    with OpenAIEngine(served[0], model="policy") as engine, pytest.raises(WrongModelError, match="was loaded from"):
        engine.load(other)


def test_a_server_that_is_killed_gives_error_rows_and_no_wrong_ones(
    served: tuple[str, subprocess.Popen[bytes]], checkpoint: Checkpoint
) -> None:
    """Last: it ends the server."""
    with OpenAIEngine(served[0], concurrency=4, retries=1, backoff=0.01) as engine:
        engine.load(checkpoint)
        requests = [request(i, 12, max_tokens=100) for i in range(40)]
        right = by_id(list(engine.generate(requests)))
        results = []
        for result in engine.generate(requests):
            if not results:
                os.killpg(served[1].pid, signal.SIGKILL)
            results.append(result)
    found = by_id(results)
    assert set(found) == set(right)
    assert any(result.error for result in found.values())
    assert all(result.error or result == right[i] for i, result in found.items())
