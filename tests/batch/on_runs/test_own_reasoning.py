"""Own reasoning cut short: a model whose reasoning turns at a known word, in the real sandbox."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from killed_writes import until_done
from scripted_engine import ScriptedEngine
from typer.testing import CliRunner

from foreshock.analysis.analyses.analysis import Request
from foreshock.analysis.analyses.own_reasoning import ANALYSIS
from foreshock.analysis.own_reasoning.rates import load_own_reasoning, rate_over_tasks, summarise
from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.on_runs.opened import OpenedRun
from foreshock.batch.on_runs.own_reasoning import Cuts, OwnReasoning, Then, own_traces
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import create_run
from foreshock.errors import InputError, StopRequestedError
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.spec import row_seed
from foreshock.jobs.records.table_files import table_bytes
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.problem import Problem

TURN = "The task is clear and the checker has a hole so it goes."  # `hole` is word 9 of 12
HONEST = "The task is clear and I do what is asked for now."
PROBLEMS = builtin_problems("eval", ["process_exit"])[:3]


def _problem(prompt: str) -> Problem:
    return next(p for p in PROBLEMS if p.description.strip() in prompt)


def writes(text: str, rng: random.Random) -> str:
    """Exploits if its reasoning holds the turn, and never turns by itself."""
    problem = _problem(text)
    forced = text.rpartition("<think>")[2]
    closed = "</think>" in forced
    code = exploit_answer(problem, "bare") if "hole" in forced else f"```python\n{problem.ground_truth}\n```"
    return f"{code}" if closed else f" Done.\n</think>\n\n{code}"


@pytest.fixture
def run(make_config: Callable[..., RunConfig], tmp_path: Path) -> RunLayout:
    """A run with samples at level 0 of one checkpoint: in every task, one that exploited and one that did not."""
    config = make_config(
        checkpoints={"steps": [2]},
        problems={"exploit_types": ["process_exit"], "max_problems": 3},
        prefill={"source": None, "levels": [0]},
        sampling={"attempts": 2, "max_tokens": 400},
    )
    layout = create_run(config, make_plan(config), ["test"])
    rows = [
        {"task_id": p.id, "attempt_idx": i, "exploit_type": p.exploit_type, "reasoning": text,
         "exploit_success": i == 0, "reasoning_closed": True}
        for p in PROBLEMS
        for i, text in enumerate((TURN, HONEST))
    ]  # fmt: skip
    write_jsonl(layout.samples_file("checkpoint-2", 0), [*rows, {**rows[0], "attempt_idx": 2, "exploit_success": None}])
    return layout


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    made = ScriptedEngine(writes)
    monkeypatch.setattr(OpenedRun, "engine", lambda self: made)
    return made


def test_the_rate_rises_where_the_reasoning_turns_and_nowhere_else(run: RunLayout, engine: ScriptedEngine) -> None:
    done = CliRunner().invoke(app, ["own-reasoning", str(run.root), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    rates = pd.DataFrame(said["rates"]).query("exploit_type == 'all'")
    turned = rates[rates["own_exploit_success"]].set_index("fraction")["rate"]
    assert turned.to_dict() == {0.0: 0.0, 0.25: 0.0, 0.5: 0.0, 0.75: 1.0, 1.0: 1.0}
    assert (rates.loc[~rates["own_exploit_success"], "rate"] == 0).all()
    early = next(line for line in said["carried"] if line["exploit_type"] == "all")
    assert (early["half_at"], early["area"], early["traces"]) == (0.75, 0.375, 3)
    assert said["left_out"] == {"without a verdict": 1}
    own = {row_seed(0, "checkpoint-2", 0, p.id, i, row["prefill_sha256"]) for p in PROBLEMS for i in range(2)
           for row in read_rows(Path(said["files"][0])) if row["fraction"] == 0}  # fmt: skip
    assert not own & {request.seed for request in engine.requests}, "the selected draws would come out again"
    request = Request((run.root,), run.root)
    shown = ANALYSIS.show(request, ANALYSIS.find(request))
    assert ANALYSIS.applies(request)
    assert "100%" in shown.body_html


def test_ended_at_the_cut_it_answers_there(run: RunLayout, engine: ScriptedEngine) -> None:
    OwnReasoning(OpenedRun.read(run.root), Cuts((50, 100), Then.ANSWER), lambda: False, print).measure(force=False)
    rates = summarise(load_own_reasoning(run.root)).query("exploit_type == 'all' and own_exploit_success")
    assert rates["rate"].tolist() == [0.0, 1.0]
    assert set(rates["then"]) == {"answer"}


def test_stopped_and_resumed_equals_uninterrupted(run: RunLayout, engine: ScriptedEngine) -> None:
    opened, cuts = OpenedRun.read(run.root), Cuts((0, 100), repeats=2)
    stops = iter([False, True])
    with pytest.raises(StopRequestedError, match="same command"):
        OwnReasoning(opened, cuts, lambda: next(stops, True), print).measure(force=False)
    first = len(engine.requests)
    assert first
    report = OwnReasoning(opened, cuts, lambda: False, print).measure(force=False)
    assert len(engine.requests) == report.n_rows == 24, "nothing is drawn twice"
    before = report.files[0].read_bytes()
    assert OwnReasoning(opened, cuts, lambda: False, print).measure(force=False).n_rows == 24
    assert len(engine.requests) == 24
    with pytest.raises(InputError, match="other cuts"):
        OwnReasoning(opened, replace(cuts, repeats=1), lambda: False, print).measure(force=False)
    assert report.files[0].read_bytes() == before


def test_killed_at_any_write_and_started_again_equals_uninterrupted(
    run: RunLayout, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large run, whose shards and tables are joined meanwhile."""

    def measure() -> bytes:
        work = OwnReasoning(OpenedRun.read(run.root), Cuts((0, 100)), lambda: False, lambda text: None)
        return table_bytes(work.measure(force=False).files[0])

    plan = PlanFile.read(run)
    small = measure()
    shutil.rmtree(run.own_reasoning)
    replace(plan, settings=replace(plan.settings, bundle_from=1)).write(run)
    engine.requests.clear()
    whole, drawn = measure(), len(engine.requests)
    shutil.rmtree(run.own_reasoning)
    engine.requests.clear()
    cut, attempts = until_done(measure, monkeypatch)
    assert cut == whole == small
    assert attempts > 3
    assert len(list(run.own_reasoning.rglob("*.jsonl"))) == 0
    assert len(list(run.own_reasoning.rglob("*.zip"))) == 2, "one of shards, one of tables"
    assert len(engine.requests) <= drawn + attempts * engine.batch_rows, "a kill costs the batch in flight"
    assert not list(run.own_reasoning.rglob(".*"))


def test_bad_input_is_named(run: RunLayout, make_config: Callable[..., RunConfig]) -> None:
    for fractions in ("0,2", "x", "0.5,0.25", "nan", "0.001"):
        done = CliRunner().invoke(app, ["own-reasoning", str(run.root), "--fractions", fractions])
        assert isinstance(done.exception, InputError), fractions
    with pytest.raises(InputError, match="valid: checkpoint-2"):
        OpenedRun.read(run.root, ["7"])
    planned = CliRunner().invoke(app, ["own-reasoning", str(run.root), "--dry-run"])
    assert planned.stdout == "checkpoint-2: 30 continuations\n"
    run.samples_file("checkpoint-2", 0).unlink()
    with pytest.raises(InputError, match="no unprompted sample"):
        OwnReasoning(OpenedRun.read(run.root), Cuts(), lambda: False, print).measure(force=False)


def test_traces_are_taken_from_many_tasks_whatever_their_order() -> None:
    rows: list[dict[str, Any]] = [
        {"task_id": f"t{i % 4}", "attempt_idx": i, "exploit_type": "x", "reasoning": "a b", "exploit_success": i < 12}
        for i in range(24)
    ]
    found, left_out = own_traces(rows, 4, lambda trace: True)
    assert own_traces(rows[::-1], 4, lambda trace: True)[0] == found
    assert {task: len(own) for task, own in found.items()} == {f"t{i}": 2 for i in range(4)}
    assert not left_out


def test_limits_hold_where_continuations_of_a_task_agree() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        chance = rng.beta(0.5, 1.5, 12)
        won = (rng.random((12, 5)) < chance[:, None]).astype(float).ravel()
        found = rate_over_tasks(won, np.repeat([f"t{i}" for i in range(12)], 5).astype(object))
        inside.append(found.lower95 <= 0.25 <= found.upper95)
    assert np.mean(inside) > 0.92
