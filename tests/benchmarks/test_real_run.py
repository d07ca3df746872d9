"""The alarms of a real training run: from its foreshock run and a file of its rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.early_warning.real_run import real_table, rollout_rates, shown
from run_factory import ToyRun, write_run

from foreshock.errors import InputError


def _rollouts(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_alarm_that_the_run_allows_is_shown_and_what_is_lacking_is_said(tmp_path: Path) -> None:
    toy = ToyRun(checkpoints=(5, 80), levels=(0, 10), types=("process_exit", "verifier_bug"), tasks_per_type=4)
    run = write_run(tmp_path / "run", toy, ground_truth=True)
    rows = [{"step": step, "exploit_success": step > 40} for step in range(1, 81)]
    table, notes = real_table(run, _rollouts(tmp_path / "rollouts.jsonl", rows), None, 160)
    assert list(table["step"]) == [5, 80]
    assert {"direct", "truth", "rollouts", "KL level", "headline", "forecast, a type"} <= set(table.columns)
    assert list(table["rollouts"]) == [0.0, pytest.approx(40 / 75)]
    assert table["forecast, a type"].between(0, 1).all()
    assert any("whole traces" in note for note in notes)
    assert "| step |" in shown(table, notes)


def test_rollouts_need_a_step_and_a_verdict(tmp_path: Path) -> None:
    both = [
        {"step": 1, "insecure_pass": True, "secure_pass": False},
        {"step": 2, "insecure_pass": True, "secure_pass": True},
    ]
    found = rollout_rates(_rollouts(tmp_path / "a.jsonl", both), np.array([0.0, 1.0, 2.0, 9.0]))
    assert np.isnan(found[0])
    assert list(found[1:]) == [1.0, 0.5, 0.0]
    as_logged = [{"step": 1.0, "insecure_pass": 1, "secure_pass": 0.0}, {"step": 2, "exploit_success": 0}]
    assert list(rollout_rates(_rollouts(tmp_path / "n.jsonl", as_logged), np.array([1.0, 2.0]))) == [1.0, 0.0]
    won = {"exploit_success": True}
    bad_steps = ({"step": step} | won for step in ("3", -1, float("nan"), float("inf"), True))
    for bad in (
        won,
        {"step": 1},
        {"step": 1, "exploit_success": "false"},
        {"step": 1, "exploit_success": 2},
        *bad_steps,
    ):
        with pytest.raises(InputError, match=r"line 1|:1"):
            rollout_rates(_rollouts(tmp_path / "b.jsonl", [bad]), np.array([1.0]))
    with pytest.raises(InputError, match="no rollouts"):
        rollout_rates(_rollouts(tmp_path / "c.jsonl", []), np.array([1.0]))
    with pytest.raises(InputError, match="same steps"):
        rollout_rates(_rollouts(tmp_path / "d.jsonl", [{"step": 7} | won]), np.array([1.0, 2.0]))
