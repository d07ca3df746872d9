"""Whoever waits for vLLM's core is told when it is killed; over vLLM itself: test_real.py."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from foreshock.jobs.engines.vllm.death import wake_on_death


class CoreKilledError(Exception):
    pass


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        yield started
        started.kill()


def client_of(process: subprocess.Popen[bytes], **answers: Future[int]) -> Any:
    """What the function uses of vLLM's client. The process's output ends as it does, like a sentinel."""
    assert process.stdout is not None
    core = SimpleNamespace(sentinel=process.stdout.fileno())
    return SimpleNamespace(
        resources=SimpleNamespace(engine_manager=SimpleNamespace(processes=[core]), engine_dead=False),
        outputs_queue=queue.Queue(),
        utility_results=answers,
    )


def test_waits_for_output_and_for_answers_end_with_the_core(process: subprocess.Popen[bytes]) -> None:
    waiting: Future[int] = Future()
    answered: Future[int] = Future()
    answered.set_result(3)
    client = client_of(process, waiting=waiting, answered=answered)
    wake_on_death(client, CoreKilledError)
    with pytest.raises(queue.Empty):
        client.outputs_queue.get(timeout=0.2)
    assert not client.resources.engine_dead
    process.kill()
    assert isinstance(client.outputs_queue.get(timeout=30), CoreKilledError)
    with pytest.raises(CoreKilledError):
        waiting.result(timeout=30)
    assert answered.result() == 3
    assert client.resources.engine_dead
