"""Naturalness of traces: scored as a sweep would score them, and null with a reason where that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from foreshock.batch.on_files.naturalness import ALL, NOT_ASKED, NOT_FORCED, Naturalness, ScoredAs, measure
from foreshock.batch.on_files.score import PrefillSample, score_samples
from foreshock.errors import InputError
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.prefill import cut_prefill
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.verify.builtin.problems import builtin_problems


@pytest.fixture(scope="module")
def by(sft_run: Path) -> ScoredAs:
    """The tiny run's first checkpoint, asked two problems, with the fake engine in the model's place."""
    from foreshock.batch.planning.checkpoints import one_checkpoint

    model = one_checkpoint(sft_run / "checkpoints" / "checkpoint-1")
    users = {"t1": "Add.", "t2": "Multiply."}
    return ScoredAs(model, checkpoint_format("auto", model), None, users, 0.7, FakeEngine)


def trace(task: str, reasoning: str, kind: str = "x") -> dict[str, Any]:
    return {"task_id": task, "reasoning": reasoning, "exploit_type": kind, "exploit_success": True}


def test_the_mean_is_that_of_the_rows_of_logprob_over_tasks_with_students_interval(by: ScoredAs) -> None:
    texts = [("t1", "I see a gap"), ("t1", "There is a hole\nhere"), ("t2", "Leave at once")]
    (found,) = measure([trace(*text) for text in texts], [0, 0, 0], ["mine"], by)
    n_words = [4, 5, 3]
    samples = [
        PrefillSample(task, i, "x", True, None, by.users[task], cut_prefill(text, n).text, n, n)
        for i, ((task, text), n) in enumerate(zip(texts, n_words, strict=True))
    ]
    engine = FakeEngine()
    engine.load(by.checkpoint)
    rows = score_samples(engine, lambda sample: by.prompt_format, samples, "checkpoint-1", 0.7)
    a, b, c = (row["prefill_logprob_mean"] for row in rows)
    means = np.array([(a + b) / 2, c])
    half = stats.t.ppf(0.975, 1) * means.std(ddof=1) / np.sqrt(2)
    assert (found.source, found.exploit_type, found.traces, found.scored, found.tasks) == ("mine", ALL, 3, 3, 2)
    assert found.tokens == sum(row["prefill_num_tokens"] for row in rows)
    assert found.logprob_per_token == pytest.approx(means.mean())
    assert (found.lower95, found.upper95) == pytest.approx((means.mean() - half, means.mean() + half))
    assert found.reason is None


def test_sources_and_types_stay_apart_and_what_cannot_be_scored_is_null_with_its_reason(by: ScoredAs) -> None:
    traces = [
        trace("t1", "I see a gap"),
        trace("t2", "So.", "y"),
        trace("t9", "Leave"),
        trace("t1", "well </think> so"),
    ]
    found = {(one.source, one.exploit_type): one for one in measure(traces, [0, 0, 1, 1], ["donor", "theirs"], by)}
    assert list(found) == [("donor", ALL), ("donor", "x"), ("donor", "y"), ("theirs", ALL)]
    alone = found["donor", "x"]
    assert alone.logprob_per_token is not None
    assert (alone.lower95, alone.upper95, alone.reason) == (None, None, "one task has no interval")
    theirs = found["theirs", ALL]
    reason = f"1 not scored: {NOT_ASKED}; 1 not scored: {NOT_FORCED}"
    assert theirs == Naturalness("theirs", ALL, 2, 0, 0, 0, None, None, None, reason)


def test_the_sweep_says_how_traces_are_asked_and_one_that_forces_answers_is_refused(
    tmp_path: Path, sft_run: Path
) -> None:
    asked = {
        "checkpoints": {"dir": str(sft_run / "checkpoints")},
        "prompt": {"system": "Be brief.", "instructions": "bare"},
        "prefill": {"source": None, "levels": [0]},
        "engine": {"device": "cpu"},
        "sampling": {"temperature": 0.0},
    }
    path = tmp_path / "sweep@home.yaml"
    path.write_text(yaml.safe_dump(asked))
    found, later = ScoredAs.of_config(str(path)), ScoredAs.of_config(f"{path}@4")
    assert (found.checkpoint.name, later.checkpoint.name) == ("checkpoint-1", "checkpoint-4")
    problem = builtin_problems("eval")[0]
    assert found.system == "Be brief."
    assert found.users[problem.id].startswith(problem.description.strip())
    assert found.temperature == 1.0
    with pytest.raises(InputError, match="no checkpoint '3'"):
        ScoredAs.of_config(f"{path}@3")
    path.write_text(yaml.safe_dump(asked | {"prefill": {"channel": "answer", "source": None, "levels": [0]}}))
    with pytest.raises(InputError, match="forces answers"):
        ScoredAs.of_config(str(path))
