"""The fake engine keeps the engine contract, with and without a tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_contract import EngineContract, by_id, request

from foreshock.jobs.engines.base import ScoreRequest
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.records.spec import Checkpoint


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


class TestWithTokenizer(EngineContract):
    @pytest.fixture
    def checkpoint(self, tiny: Checkpoint) -> Checkpoint:
        return tiny


class TestWithoutCheckpointFiles(EngineContract):
    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Checkpoint:
        return Checkpoint("run", 7, tmp_path / "absent")


def test_checkpoints_answer_and_score_differently(engine: FakeEngine, tmp_path: Path) -> None:
    requests = [request(i) for i in range(4)]
    score = [ScoreRequest(0, tuple(range(20)), 10)]
    engine.load(Checkpoint("run", 1, tmp_path))
    first = by_id(list(engine.generate(requests))), list(engine.score(score, 1.0))
    engine.load(Checkpoint("run", 2, tmp_path))
    second = by_id(list(engine.generate(requests))), list(engine.score(score, 1.0))
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert (engine.builds, engine.swaps) == (1, 1)


def test_most_answers_hold_code(engine: FakeEngine, tmp_path: Path) -> None:
    engine.load(Checkpoint("run", 1, tmp_path))
    results = list(engine.generate([request(i, max_tokens=2000, stop_token_ids=(0,)) for i in range(60)]))
    assert sum("```python" in r.text and "</think>" in r.text for r in results) > 20
