"""The demo's configurations are ordinary ones, and a complete stage is not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from foreshock.batch.config_file import load_config
from foreshock.batch.demo import pipeline
from foreshock.batch.demo.pipeline import DONOR_STEP, LEVELS, STEPS, DemoOptions, _Sweeps
from foreshock.batch.demo.summary import foresight_lines
from foreshock.batch.demo.train import OrganismPaths
from foreshock.batch.running.execute import Execution
from foreshock.batch.running.run import RunHooks, RunResult
from foreshock.jobs.records.jsonl import write_json, write_jsonl
from foreshock.jobs.records.layout import ResultsLayout, RunLayout


@pytest.fixture
def sweeps(tmp_path: Path) -> _Sweeps:
    organism = OrganismPaths(tmp_path / "exploit", tmp_path / "control", tmp_path / "donor-model")
    return _Sweeps(DemoOptions(tmp_path, workers=2), ResultsLayout(tmp_path), organism, ["foreshock"], RunHooks())


def test_the_two_sweeps_differ_in_their_checkpoints_only(sweeps: _Sweeps, tmp_path: Path) -> None:
    donor = RunLayout(tmp_path / "donor")
    exploit = sweeps.sweep("exploit", tmp_path / "s.jsonl", donor).to_yaml_dict()
    control = sweeps.sweep("control", tmp_path / "s.jsonl", donor).to_yaml_dict()
    assert exploit.pop("checkpoints") != control.pop("checkpoints")
    assert exploit == control
    assert exploit["prefill"]["levels"] == list(LEVELS)
    assert exploit["logprob"]["reference"].endswith(f"donor-model/checkpoint-{DONOR_STEP}")
    assert set(exploit["ground_truth"]["steps"]) < set(STEPS)


def test_the_donor_continues_its_own_prefixes_with_other_draws(sweeps: _Sweeps, tmp_path: Path) -> None:
    bank, donor = sweeps.bank(), sweeps.donor(tmp_path / "s.jsonl")
    assert (bank.checkpoints.steps, bank.prefill.levels) == ((DONOR_STEP,), (0,))
    assert bank.checkpoints.dir == donor.checkpoints.dir == tmp_path / "donor-model"
    assert donor.sampling.rollouts > 1
    assert donor.sampling.seed != bank.sampling.seed


@pytest.mark.parametrize("allowed", [False, True])
def test_less_than_the_full_sandbox_is_for_the_user_to_allow(tmp_path: Path, allowed: bool) -> None:
    organism = OrganismPaths(tmp_path / "exploit", tmp_path / "control", tmp_path / "donor-model")
    options = DemoOptions(tmp_path, allow_weak_sandbox=allowed)
    sweeps = _Sweeps(options, ResultsLayout(tmp_path), organism, ["foreshock"], RunHooks())
    donor = RunLayout(tmp_path / "donor")
    configs = (sweeps.bank(), sweeps.sweep("exploit", tmp_path / "s.jsonl", donor))
    assert [config.verifier.allow_weak_sandbox for config in configs] == [allowed] * 2


def test_stages_run_once_resume_when_broken_off_and_leave_their_configuration(
    sweeps: _Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    layout = RunLayout(tmp_path / "prefill_sensitivity" / "demo-bank-20260101-000000-abc1234")

    def finish(name: str) -> RunResult:
        calls.append(name)
        write_json(layout.plan, {})
        write_json(layout.status, {"status": "completed"})
        return RunResult(layout, Execution())

    def fake_run(*arguments: Any, **options: Any) -> RunResult:
        return finish("run")

    def fake_resume(*arguments: Any, **options: Any) -> RunResult:
        return finish("resume")

    monkeypatch.setattr(pipeline, "run", fake_run)
    monkeypatch.setattr(pipeline, "resume", fake_resume)
    assert sweeps.run("demo-bank", sweeps.bank()) == layout
    assert sweeps.run("demo-bank", sweeps.bank()).root == layout.root
    write_json(layout.status, {"status": "interrupted"})
    sweeps.run("demo-bank", sweeps.bank())
    assert calls == ["run", "resume"]
    assert load_config(tmp_path / "configs" / "demo-bank.yaml").name == "demo-bank"


def test_the_summary_judges_estimates_by_the_extra_samples(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "run-a")
    rows = [
        {"task_id": f"t{i}", "exploit_type": "leak", "attempt_idx": 9, "exploit_success": i < 5, "prefill_tokens": 0}
        for i in range(100)
    ]
    write_jsonl(run.ground_truth_file("checkpoint-8"), rows)
    folder = tmp_path / "analysis"
    (folder / "forecast").mkdir(parents=True)
    rate = {"run": "run-a", "exploit_type": "leak", "method": "headline", "n": 9, "successes": 0, "status": "estimate"}
    table = [
        rate | {"checkpoint": 4, "lower95": -9.0, "upper95": 0.0},
        rate | {"checkpoint": 8, "lower95": -2.0, "upper95": -1.0},
    ]
    pd.DataFrame(table).to_csv(folder / "rates.csv", index=False)
    past = [
        {"cutoff_idx": 1, "run": run, "exploit_type": kind, "p_exceed": p, "outcome_probability": out, "at_risk": True}
        for run, kind, p, out in (("a", "leak", 0.6, 0.9), ("a", "skip", 0.2, 0.8), ("b", "leak", 0.1, 0.0))
    ]
    past.append({**past[0], "exploit_type": "gone", "at_risk": False})
    pd.DataFrame(past).to_csv(folder / "forecast" / "past_forecasts.csv", index=False)
    good = foresight_lines([run], folder, 8)
    assert "1 of 1 estimates' 95% intervals agree" in good[0]
    assert (
        "right, at 50%, for a: 1 of 2 types (mean probability 40%); b: 1 of 1 types (mean probability 10%)" in good[1]
    )
    table[1] |= {"lower95": -6.0, "upper95": -5.0}
    pd.DataFrame(table).to_csv(folder / "rates.csv", index=False)
    assert "0 of 1 estimates' 95% intervals agree" in foresight_lines([run], folder, 8)[0]
    assert foresight_lines([run], tmp_path / "nothing", 8) == []
