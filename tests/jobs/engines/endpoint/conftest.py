"""A served checkpoint, and an engine that talks to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from connected_endpoint import connected
from endpoint_server import FakeBackend, ModelBackend, Server

from foreshock.jobs.engines.endpoint.engine import OpenAIEngine
from foreshock.jobs.records.spec import Checkpoint


@pytest.fixture
def checkpoint(tiny: Checkpoint) -> Checkpoint:
    return tiny


@pytest.fixture
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


@pytest.fixture
def engine(server: Server) -> Iterator[OpenAIEngine]:
    with connected(server) as made:
        yield made
