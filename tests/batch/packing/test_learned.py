"""Costs that earlier runs measured: taken from the closest model, scaled, and told where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.packing.cost import CostModel, RowCost
from foreshock.batch.packing.learned import learned_costs, record_costs, scaled_guess
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

GUESS = CostModel(load_s=120, swap_s=20, rows=(RowCost(JobKind.EVAL, 0, 1.0),))
GIB = 2**30


def entry(**changes: Any) -> dict[str, Any]:
    rows = [{"kind": "eval", "level": 0, "rows": 100.0, "seconds": 50.0, "tokens": 20_000.0}]
    return {
        "engine": "vllm", "device": "H100", "weight_bytes": GIB, "max_tokens": 1000, "load_s": 40.0, "swap_s": 5.0,
        "rows": rows,
    } | changes  # fmt: skip


def store(runs: Path, **entries: dict[str, Any]) -> Path:
    for name, one in entries.items():
        (runs / name).mkdir(parents=True)
        (runs / name / "costs.json").write_text(json.dumps({"format": 1, "entries": [one]}))
    return runs


def test_the_model_closest_in_size_is_taken_and_the_rest_is_scaled(tmp_path: Path) -> None:
    runs = store(tmp_path, small=entry(), large=entry(weight_bytes=16 * GIB, load_s=100.0), other=entry(engine="fake"))
    same = learned_costs(runs, GUESS, "vllm", GIB, 1000, on_gpu=True)
    assert same is not None
    assert same.cost.row_seconds(JobKind.EVAL, 0) == 0.5
    assert (same.cost.load_s, same.cost.swap_s) == (40.0, 5.0)
    assert same.source == "learned from small (vllm on H100)"
    twice = learned_costs(runs, GUESS, "vllm", 32 * GIB, 1000, on_gpu=True)
    assert twice is not None
    assert twice.cost.row_seconds(JobKind.EVAL, 0) == 1.0
    assert twice.cost.load_s == 200.0
    assert "scaled from 16.0 GiB" in twice.source


def test_what_does_not_apply_is_not_taken(tmp_path: Path) -> None:
    runs = store(tmp_path, cpu=entry(device="cpu"), few=entry(rows=[entry()["rows"][0] | {"rows": 3.0}]))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "costs.json").write_text("{")
    assert learned_costs(runs, GUESS, "vllm", GIB, 1000, on_gpu=True) is None
    assert learned_costs(runs, GUESS, "vllm", None, 1000, on_gpu=False) is None
    assert learned_costs(runs, GUESS, "vllm", GIB, 1000, on_gpu=False) is not None


@pytest.mark.parametrize(("mean", "longer", "expected"), [(200, 4000, 0.5), (200, 100, 0.25), (1000, 2000, 1.0)])
def test_rows_cost_by_the_tokens_that_they_will_have(tmp_path: Path, mean: int, longer: int, expected: float) -> None:
    """Ended by themselves; cut shorter now; cut then, and free to go on now."""
    runs = store(tmp_path, run=entry(rows=[entry()["rows"][0] | {"tokens": 100.0 * mean}]))
    found = learned_costs(runs, GUESS, "vllm", GIB, longer, on_gpu=True)
    assert found is not None
    assert found.cost.row_seconds(JobKind.EVAL, 0) == pytest.approx(expected)


@given(st.integers(2**20, 2**40), st.integers(2**20, 2**40))
def test_a_larger_model_is_never_guessed_to_cost_less(a: int, b: int) -> None:
    small, large = (scaled_guess(GUESS, 15, size).cost for size in sorted((a, b)))
    assert small.row_seconds(JobKind.EVAL, 0) <= large.row_seconds(JobKind.EVAL, 0)
    assert small.load_s <= large.load_s


def test_a_run_leaves_what_its_shards_measured(tmp_path: Path) -> None:
    weights = tmp_path / "model"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "pytorch_model.bin").write_bytes(b"PK".ljust(1000))
    (weights / "tokenizer.json").write_text("{}")
    spec = JobSpec(
        JobKind.EVAL, Checkpoint("run", 1, weights), (0,), ("a",), tuple(range(10)), SamplingParams(max_tokens=64),
        "chat", "t", "f", "p", "q", "v", 3,
    )  # fmt: skip
    settings = WorkerSettings("vllm", {}, "v", {}, "chat", None, "", "per_task", False, None, None)
    plan, layout = PlanFile((spec,), settings), RunLayout(tmp_path / "runs" / "run")
    writer = ShardStore(layout).open(spec, Origin(None, None, 3, device="H100"))
    writer.seal(timings={"generate_s": 4.0, "verify_s": 1.0, "rows": 10.0, "output_tokens": 400.0, "load_s": 30.0})
    record_costs(layout, plan)
    found = learned_costs(tmp_path / "runs", GUESS, "vllm", 1000, 64, on_gpu=True)
    assert found is not None
    assert found.cost.row_seconds(JobKind.EVAL, 0) == 0.5
    assert (found.cost.load_s, found.cost.swap_s) == (30.0, 20.0)
