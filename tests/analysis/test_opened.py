"""`foreshock.load`: frames that agree with the tables, read when asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import foreshock
from foreshock.errors import InputError


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, factory: ModuleType) -> Path:
    path: Path = factory.write_run(
        tmp_path_factory.mktemp("results") / "toy-20260101-000000-abcdef0", ground_truth=True
    )
    return path


def test_loading_reads_nothing_and_imports_nothing_heavy() -> None:
    code = "import sys, foreshock; foreshock.load('.'); assert not {'pandas', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_frames_hold_the_run(run_dir: Path) -> None:
    run = foreshock.load(run_dir)
    attempts = run.attempts()
    assert len(attempts) == 5 * 6 * 24 * 3
    assert set(attempts["exploit_type"].unique()) >= {"hardcoding", "verifier_bug"}
    scores = run.scores()
    assert {"prefill_logprob_sum", "kl_divergence", "ref_logprob_sum"} <= set(scores.columns)
    assert len(scores) == len(scores.drop_duplicates(["checkpoint", "prefill_level", "task_id", "attempt_idx"]))
    assert len(run.ground_truth()) == 5 * 24 * 40
    assert set(run.trajectory()["task_id"]) == set(attempts["task_id"])


def test_frames_are_the_callers_own(run_dir: Path) -> None:
    run = foreshock.load(run_dir)
    del run.attempts()["exploit_success"]
    assert "exploit_success" in run.attempts()


def test_rates_are_read_or_estimated(run_dir: Path) -> None:
    rates = foreshock.load(run_dir).rates()
    assert {"headline", "direct"} <= set(rates["method"])
    (run_dir / "analysis").mkdir(exist_ok=True)
    rates.to_csv(run_dir / "analysis" / "rates.csv", index=False)
    again = foreshock.load(run_dir).rates()
    assert list(again["method"]) == list(rates["method"])


def test_samples_filter_and_stop(run_dir: Path) -> None:
    run = foreshock.load(run_dir)
    found = run.samples(verdict="exploit", level=30, checkpoint=80)
    assert found["exploit_success"].all()
    assert set(found["prefill_level"]) == {30}
    assert len(run.samples(limit=7)) == 7
    with pytest.raises(InputError, match="unknown filter 'colour'"):
        run.samples(colour="red")


def test_a_missing_run_is_said() -> None:
    with pytest.raises(InputError, match="no such run directory"):
        foreshock.load("absent")
