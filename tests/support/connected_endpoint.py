"""The endpoint engine as tests connect it to a server, and the requests that they send."""

from __future__ import annotations

from typing import Any

from endpoint_server import Server
from engine_contract import request

from foreshock.jobs.engines.base import GenerationRequest
from foreshock.jobs.engines.endpoint.engine import OpenAIEngine


def connected(server: Server, **options: Any) -> OpenAIEngine:
    """An engine with short waits."""
    settings: dict[str, Any] = {"model": "model", "backoff": 0.002, "timeout": 60.0, "retries": 3, "score_top_k": -1}
    return OpenAIEngine(server.url, **(settings | options))


def many(n: int, **changes: Any) -> list[GenerationRequest]:
    return [request(i, 5 + 3 * (i % 7), stop_token_ids=(2, 300 + i % 5), **changes) for i in range(n)]
