"""Splitting a model whose rate is known: the run's own prompts, sampling and sandbox, resumed and extended."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from killed_writes import until_done
from scripted_engine import ScriptedEngine
from typer.testing import CliRunner

from foreshock.analysis.analyses.analysis import Request
from foreshock.analysis.analyses.splitting import ANALYSIS
from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.on_runs.opened import OpenedRun
from foreshock.batch.on_runs.splitting import SplitSettings, Splitting
from foreshock.batch.on_runs.writing import Beginning, Writer, Writing, gentle_power
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import create_run
from foreshock.errors import InputError, StopRequestedError
from foreshock.jobs.engines.base import FinishReason
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.table_files import has_table
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.verify.builtin.problems import builtin_problems
from foreshock.jobs.verify.problem import Problem

STEPS, LEAN, NEEDED = 6, 0.1, 4
TRUTH = sum(
    float(np.prod([STEPS - i for i in range(k)]) / np.prod(range(1, k + 1))) * LEAN**k * (1 - LEAN) ** (STEPS - k)
    for k in range(NEEDED, STEPS + 1)
)
"""1.27e-3: four of six steps lean towards the exploit."""
PROBLEMS = builtin_problems("eval", ["process_exit"])[:3]


def _problem(text: str) -> Problem:
    return next(p for p in PROBLEMS if p.description.strip() in text)


def _steps(text: str) -> str:
    return text.rpartition("<think>")[2].strip()


def writes(text: str, rng: random.Random) -> str:
    """`b` for a step that leans, `a` for one that does not; then the answer that they decide."""
    problem, done = _problem(text), _steps(text)
    more = "".join("b" if rng.random() < LEAN else "a" for _ in range(STEPS - len(done)))
    wins = (done + more).count("b") >= NEEDED
    answer = exploit_answer(problem, "bare") if wins else f"```python\n{problem.ground_truth}\n```"
    return f"{more}</think>\n\n{answer}<|im_end|>"


def scores(before: str, code: str) -> float:
    """Not quite what is known: each lean makes the exploit ten times likelier, whatever is left."""
    return -10.0 + 2.3 * _steps(before).partition("</think>")[0].count("b")


@pytest.fixture
def run(make_config: Callable[..., RunConfig]) -> RunLayout:
    config = make_config(
        checkpoints={"steps": [2]},
        problems={"exploit_types": ["process_exit"], "max_problems": 3},
        prefill={"source": None, "levels": [0]},
        sampling={"attempts": 2, "max_tokens": 400},
    )
    return create_run(config, make_plan(config), ["test"])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    made = ScriptedEngine(writes, scores, batch_rows=64)
    monkeypatch.setattr(OpenedRun, "engine", lambda self: made)
    return made


def test_a_rare_rate_is_found_where_as_many_attempts_would_not(run: RunLayout, engine: ScriptedEngine) -> None:
    arguments = ["split", str(run.root), "--levels", "1,2,3,4,5", "--particles", "48", "--repeats", "8"]
    shown = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert "process_exit: 432 answers over 3 tasks, scored at 1, 2, 3, 4, 5 tokens" in shown.output
    assert not engine.requests
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["rates"]
    assert found["lower95"] <= TRUTH <= found["upper95"]
    assert TRUTH / 3 < found["rate"] < 3 * TRUTH
    assert found["standard_error"] < 0.5 * (TRUTH / 432) ** 0.5, "no better than as many attempts"
    assert found["unread"] == 0
    request = Request((run.root,), run.root)
    assert ANALYSIS.applies(request)
    assert "process" in ANALYSIS.show(request, ANALYSIS.find(request)).body_html


def test_stopped_resumed_and_extended_equals_uninterrupted(run: RunLayout, engine: ScriptedEngine) -> None:
    settings, opened = SplitSettings(4, 4, (2, 4)), OpenedRun.read(run.root)
    told: list[str] = []
    with pytest.raises(StopRequestedError, match="same command"):
        Splitting(opened, settings, lambda: len(told) > 1, told.append).measure(force=False)
    assert len(told) == 2
    Splitting(opened, settings, lambda: False, told.append).measure(force=False)
    report = Splitting(opened, replace(settings, repeats=5), lambda: False, told.append).measure(force=False)
    assert (report.n_kept, report.n_new) == (4, 1)

    def kept() -> list[Any]:
        rows = [json.loads(line) for line in report.files[0].read_text().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    before = kept()
    with pytest.raises(InputError, match="particles 4"):
        Splitting(opened, replace(settings, particles=8), lambda: False, told.append).measure(force=False)
    report.files[0].unlink()
    Splitting(opened, replace(settings, repeats=5), lambda: False, told.append).measure(force=False)
    assert kept() == before


def test_killed_at_any_write_and_started_again_equals_uninterrupted(
    run: RunLayout, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large run, whose tables are joined with those of other checkpoints."""
    plan = PlanFile.read(run)
    replace(plan, settings=replace(plan.settings, bundle_from=1)).write(run)
    other = run.splitting / "checkpoint-4.jsonl"

    def measure() -> list[Any]:
        if not has_table(other):
            write_jsonl(other, [{}])
        work = Splitting(OpenedRun.read(run.root), SplitSettings(4, 4, (2, 4)), lambda: False, lambda text: None)
        rows = read_rows(work.measure(force=False).files[0])
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    whole = measure()
    shutil.rmtree(run.splitting)
    cut, attempts = until_done(measure, monkeypatch)
    assert cut == whole
    assert attempts > 2
    assert not list(run.splitting.glob("*.jsonl"))
    assert read_rows(other) == [{}]
    assert not list(run.splitting.rglob(".*"))


@pytest.mark.parametrize("stop", [(), ("x = 1\n```",)])
def test_written_in_parts_it_ends_as_in_one_go(run: RunLayout, stop: tuple[str, ...]) -> None:
    whole_text = "I look.</think>\n\n```python\nx = 1\n```<|im_end|>"

    def fixed(text: str, rng: random.Random) -> str:
        return whole_text[len(text.rpartition("<think>")[2].lstrip("\n")) :]

    opened = OpenedRun.read(run.root)
    (spec,) = opened.specs
    engine = ScriptedEngine(fixed)
    engine.load(spec.checkpoint)
    sampling = replace(spec.sampling, stop=stop)
    writer = Writer(engine, opened.verifier(), opened.prompt_format(spec), engine.tokenizer, opened.plan.settings,
                    sampling, opened.inputs.problems, lambda: False)  # fmt: skip
    process = Writing(writer, [PROBLEMS[0].id], ("n",), {})
    (whole,) = process.extend(process.start(1), 400)
    for step in (1, 3, 7):
        parts = process.start(1)
        for level in range(step, 100, step):
            parts = process.extend(parts, level)
        assert parts == [whole]
    assert whole.ended is FinishReason.STOP
    assert process.extend([Beginning(PROBLEMS[0].id)], 5)[0].ended is None
    writer.verifier.close()


@given(st.lists(st.floats(-50, 50), min_size=4, max_size=40), st.floats(0, 1))
def test_a_pilots_power_leaves_half_of_the_beginnings_effective(nats: list[float], before: float) -> None:
    gains, old = dict(enumerate(nats)), [before * n for n in nats]
    power = gentle_power(gains, old)
    weights = np.exp([power * n - b for n, b in zip(nats, old, strict=True)])
    assert 0.02 <= power <= 1
    assert power == 0.02 or weights.sum() ** 2 / (weights**2).sum() >= len(nats) / 2 * (1 - 1e-9)
    assert gentle_power(dict.fromkeys(range(4), nats[0]), [0.0] * 4) == 1


def test_bad_input_is_named(run: RunLayout, engine: ScriptedEngine) -> None:
    for arguments, message in (
        (["--levels", "x"], "numbers of tokens"),
        (["--levels", "4,2"], "ascending"),
        (["--levels", "4", "--repeats", "2"], "at least 4"),
        (["--levels", "4", "--power", "0"], "above 0"),
        (["--levels", "4", "--exploit-type", "y"], "valid: process_exit"),
        ([], "give --levels"),
    ):
        done = CliRunner().invoke(app, ["split", str(run.root), *arguments])
        assert isinstance(done.exception, InputError), arguments
        assert message in str(done.exception)
    assert not Path(run.splitting).exists()
