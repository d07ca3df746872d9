"""The shipped contract, and what foreshock's own engines do besides: they count."""

from __future__ import annotations

from typing import Any

from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.records.spec import Checkpoint
from foreshock.testing import engines
from foreshock.testing.engines import by_id, request

__all__ = ["EngineContract", "by_id", "request"]


class EngineContract(engines.EngineContract):
    """Tests over the fixtures `engine` (nothing loaded) and `checkpoint`."""

    def test_scoring_counts_sequences(self, engine: Any, checkpoint: Checkpoint) -> None:
        engine.load(checkpoint)
        before = engine.scored_sequences
        ids = request(0, 40).prompt_token_ids
        assert len(list(engine.score([ScoreRequest(i, ids[: 20 + i], 10) for i in range(5)], 1.0))) == 5
        assert engine.scored_sequences - before == 5
