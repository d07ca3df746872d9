"""A donor's evidence as repeats, and what may be put together with splitting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foreshock.analysis.evidence.evidence import DonorKind, Evidence, PrefillRows, Surface
from foreshock.analysis.splitting.combine import combine
from foreshock.analysis.splitting.of_runs import DONOR_REPEATS, donor_repeats, lines_for_people, splitting_table
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout


def _evidence(rng: np.random.Generator, donor: DonorKind = DonorKind.UNCONDITIONED) -> Evidence:
    """Four tasks, eight traces each at two levels; a donor that exploits in half of its traces, 100 times the target's
    rate of .005."""
    task, trace, level = (a.ravel() for a in np.meshgrid(range(4), range(8), range(1, 3), indexing="ij"))
    n = len(task)
    hit = np.repeat(rng.random(n // 2) < 0.5, 2).astype(np.int64)
    zeros = np.zeros(n, np.int64)
    rows = PrefillRows(zeros, zeros, level, task, 100 * task + trace, hit, np.full(n, -np.log(100.0)), np.full(n, -9.0))
    counts = np.array([[[40, n // 2, n // 2]]])
    return Evidence(
        (Surface("r", "x"),), np.array([4.0]), np.array([0, 10, 20]), counts, np.zeros_like(counts), rows, donor
    )


def test_traces_dealt_into_repeats_estimate_the_rate_without_bias() -> None:
    rng = np.random.default_rng(0)
    found = [donor_repeats(_evidence(rng), 0, 0) for _ in range(100)]
    values = np.array([repeats for repeats in found if repeats is not None])
    assert values.shape == (100, DONOR_REPEATS)
    means = values.mean(1)
    assert abs(means.mean() - 0.005) < 4 * means.std() / 10
    errors = values.std(1, ddof=1) / DONOR_REPEATS**0.5
    assert np.mean(errors) == pytest.approx(means.std(), rel=0.3)


def test_weights_that_lack_a_factor_are_no_repeats() -> None:
    assert donor_repeats(_evidence(np.random.default_rng(0), DonorKind.CONDITIONED_UNCORRECTED), 0, 0) is None


def test_a_part_that_saw_nothing_does_not_pull_the_rate_to_zero() -> None:
    seen = np.random.default_rng(0).gamma(20.0, 0.05e-4, 8)
    found = combine([seen, np.zeros(8)])
    assert found.rate == pytest.approx(seen.mean(), rel=0.1)
    assert found.standard_error == pytest.approx(seen.std(ddof=1) / 8**0.5)
    assert combine([np.zeros(8), np.zeros(8)]).rate == 0.0


def _row(kind: str, repeat: int, rate: float, **more: Any) -> dict[str, Any]:
    row = {"exploit_type": kind, "repeat": repeat, "rate": rate, "particles": 64, "levels": [8], "survivors": [0.5]}
    return row | {"output_tokens": 100, "unread": 2, "recipe": kind, **more}


def test_what_repeats_cannot_say_is_null_with_a_reason(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "run")
    rows = [_row("a", i, rate) for i, rate in enumerate([1e-4, 1.1e-4, 0.9e-4, 1.2e-4])]
    rows += [_row("b", i, 0.0) for i in range(4)] + [_row("c", 0, 1e-3), _row("c", 1, 1e-3)]
    rows += [_row("d", i, rate) for i, rate in enumerate([0.0, 0.0, 0.0, 1e-3])]
    write_jsonl(run.splitting / "checkpoint-8.jsonl", rows)
    table = splitting_table(run.root).set_index("exploit_type")
    assert table["trusted"].to_dict() == {"a": True, "b": False, "c": False, "d": False}
    assert table.loc["a", "rate"] == pytest.approx(1.05e-4)
    assert table.loc["b", "upper95"] == pytest.approx(1 - 0.05 ** (1 / 256))
    assert np.isnan(table.loc["c", "rate"])
    assert (table.loc["d", "lower95"], table.loc["d", "upper95"]) == (0.05 * 2.5e-4, 1.0)
    told = "\n".join(lines_for_people(splitting_table(run.root)))
    assert "c: ; 2 repeats; a standard error takes 4" in told.replace("c:;", "c: ;")
    assert "as many attempts" in told
    assert "nan" not in told
    write_jsonl(run.splitting / "checkpoint-8.jsonl", [*rows, _row("a", 4, 1e-4, recipe="other")])
    with pytest.raises(InputError, match="different settings"):
        splitting_table(run.root)
