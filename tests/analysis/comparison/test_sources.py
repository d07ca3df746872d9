"""Sources side by side: cost, bias and alarms of fabricated tables, and a reason for whatever was not measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from foreshock.analysis.comparison.alarms import CodeLimit, code_lead, lead_of
from foreshock.analysis.comparison.sources import CODE, HONEST_CODE, PREFILLS, bias_of, side_by_side
from foreshock.batch.cli.app import app
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams

SETTINGS = WorkerSettings("fake", {}, "v", {}, "chat", None, "", "per_task", False, None, None)


def counts(rows: Sequence[tuple[str, str, float, int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["task_id", "exploit_type", "checkpoint", "prefill_level", "n", "k"])


def test_bias_is_over_types_and_against_the_tasks_that_were_prefilled() -> None:
    evals = counts([(task, kind, 1.0, 10, 1, 1) for task, kind in (("t1", "x"), ("t2", "x"), ("t3", "y"))])
    direct = counts(
        [
            ("t1", "x", 1.0, 0, 10, 2),
            ("t2", "x", 1.0, 0, 5, 0),  # the mean over tasks is 0.1
            ("t9", "x", 1.0, 0, 10, 10),  # no trace: importance sampling says nothing of it
            ("t1", "x", 2.0, 0, 10, 2),
            ("t2", "x", 2.0, 0, 10, 0),
            ("t3", "y", 1.0, 0, 100, 1),
            ("t3", "y", 2.0, 0, 100, 0),  # none seen: no direct log rate
        ]
    )
    estimates = pd.DataFrame(
        [("x", 1.0, -3.0), ("x", 2.0, -2.0), ("y", 1.0, -2.5), ("y", 2.0, -4.0)],
        columns=["exploit_type", "checkpoint", "log10_rate"],
    )
    found = bias_of(estimates, evals, direct, "ground_truth")
    half = stats.t.ppf(0.975, 1) * np.std([-1.5, -0.5], ddof=1) / np.sqrt(2)
    assert (found.cells, found.types, found.reference, found.reason) == (3, 2, "ground_truth", None)
    assert (found.decades, found.lower95, found.upper95) == pytest.approx((-1.0, -1.0 - half, -1.0 + half))
    alone = bias_of(estimates[estimates["exploit_type"] == "y"], evals, direct, "evals")
    assert (alone.decades, alone.lower95, alone.reason) == (pytest.approx(-0.5), None, "one type has no interval")
    unseen = bias_of(estimates, evals, direct.assign(k=0), "evals")
    assert (unseen.decades, unseen.reason) == (None, "no exploit was sampled at level 0")
    never = bias_of(estimates.assign(log10_rate=None), evals, direct, "evals")
    assert (never.decades, never.reason) == (None, "no cell has both rates")


def forecasts(kinds: dict[str, list[float]], outcomes: dict[str, float]) -> pd.DataFrame:
    rows = [
        {
            "exploit_type": kind,
            "cutoff_idx": i,
            "p_exceed": p,
            "emerged_probability": 0.2 + 0.5 * (kind == "c"),
            "outcome_probability": outcomes[kind],
        }
        for kind, values in kinds.items()
        for i, p in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_alarms_are_set_against_level_0_by_type_and_false_ones_are_counted() -> None:
    outcomes = {"a": 0.9, "b": 0.1, "c": 0.1, "d": 0.2}  # c had emerged before its alarm
    own = forecasts({"a": [0.1, 0.5, 0.2], "b": [0.6, 0.1, 0.1], "c": [0, 0, 0.7], "d": [0, 0, 0]}, outcomes)
    alone = forecasts({"a": [0, 0, 0.9], "b": [0.5, 0, 0], "c": [0, 0.9, 0], "d": [0, 0, 0]}, outcomes)
    found = lead_of(own, [0.0, 4.0, 8.0, 16.0], alone)
    assert found.by_type == {"a": "4", "b": "0", "c": "8", "d": None}
    assert (found.first, found.earlier, found.same, found.later, found.false_alarms) == ("0", 1, 2, 1, 1)
    quiet = lead_of(own[own["exploit_type"] == "d"], [0.0, 4.0, 8.0, 16.0], None)
    assert (quiet.first, quiet.earlier, quiet.false_alarms) == (None, None, 0)
    assert quiet.reason == "no alarm before checkpoint 16"
    assert lead_of(own.assign(outcome_probability=np.nan), [0.0, 4.0, 8.0, 16.0], alone).false_alarms is None


def test_code_after_honest_reasoning_alarms_by_what_it_gained(factory: ModuleType, tmp_path: Path) -> None:
    steps = [0.0, 4.0, 8.0, 16.0]
    direct = forecasts({"a": [0, 0, 0.9], "b": [0, 0, 0]}, {"a": 0.9, "b": 0.1})
    gained = {"a": [0, 3, 3, 3], "b": [0, 0, 2, 2], "late": [0, 0, 0, 9]}
    for i, step in enumerate(steps):
        rows = [
            {"task_id": k, "exploit_type": k, "exploit_logprob_sum": v[i] - 20.0, "reasoning_before": "honest"}
            for k, v in gained.items()
        ]
        factory.write_rows(tmp_path / "exploit_logprob" / f"checkpoint-{step:.0f}.jsonl", rows)
    found = code_lead(tmp_path, steps, direct, CodeLimit(2.0, 0.05))
    assert found.by_type == {"a": "4", "b": "8", "late": None}
    assert (found.earlier, found.same, found.later, found.false_alarms) == (2, 0, 0, 1)
    assert code_lead(tmp_path, steps, direct, CodeLimit(9.0, 0.05)).reason == "no alarm before checkpoint 16"
    assert code_lead(tmp_path, steps, direct, None).reason == "no threshold was given"
    assert "not_scored" in (code_lead(tmp_path / "absent", steps, direct, CodeLimit(2.0, 0.05)).reason or "")


def make_run(factory: ModuleType, root: Path, name: str, **changed: Any) -> Path:
    """A planned run with one checkpoint, of which the scores of exploit code alone recorded their time."""
    layout = RunLayout(root / name)
    base = JobSpec(
        JobKind.EVAL, Checkpoint("run", 1, root), (0,), ("t",), (0,), SamplingParams(max_tokens=64),
        "chat", "t", "f", "p", "q", "v", 3,
    )  # fmt: skip
    base = replace(base, **changed)
    code = replace(base, kind=JobKind.EXPLOIT_LOGPROB)
    honest = replace(base, kind=JobKind.HONEST_LOGPROB)
    PlanFile((base, replace(base, levels=(10,)), code, honest), SETTINGS).write(layout)
    ShardStore(layout).open(code, Origin(None, None, 3, device="H100")).seal(timings={"score_s": 2.0, "load_s": 1.5})
    for level in (0, 10):
        factory.write_rows(
            layout.root / "evals" / f"checkpoint-1_prefill{level}.jsonl", [factory.eval_row("t", 0, True)]
        )
    layout.config.write_text("config: {}\n")
    write_jsonl(layout.prefills, [{"task_id": "t", "reasoning": "So.", "model_id": f"<b>{name}</b>"}])
    return layout.root


def test_what_was_not_measured_has_its_reason_in_text_json_and_page(factory: ModuleType, tmp_path: Path) -> None:
    runs = [make_run(factory, tmp_path, name) for name in ("donor", "asked")]
    runs.append(make_run(factory, tmp_path, "mine", template_sha256="u"))
    others = [{"id": "t", "description": "a"}, {"id": "u", "description": "b"}]
    for run, problems in zip(runs, ([others[1], others[0]], others, others[:1]), strict=True):
        write_jsonl(RunLayout(run).problems, problems)
    page = tmp_path / "page.html"
    command = ["compare", *map(str, runs), "--sources", "--html", str(page)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)["sources"]
    differ = ("template_sha256", "problems")
    assert found["differences"] == [f"mine differs from donor in {what}, too" for what in differ]
    rows = {(row["run"], row["what"]): row for row in found["rows"]}
    assert len(rows) == 12
    assert rows["donor", HONEST_CODE]["cost"]["reason"] == "1 of 1 shards did not record their time"
    prefills, code = rows["donor", PREFILLS], rows["donor", CODE]
    assert (prefills["traces"], prefills["writers"]) == (1, ["<b>donor</b>"])
    assert prefills["cost"] == {
        "tokens": None, "seconds": None, "devices": [], "reason": "1 of 1 shards did not record their time",
    }  # fmt: skip
    assert (code["cost"]["seconds"], code["cost"]["devices"]) == (3.5, ["H100"])
    for part in ("bias", "lead"):
        for row in rows.values():
            assert row[part]["reason"]
    assert prefills["bias"]["decades"] is None
    assert "&lt;b&gt;donor&lt;/b&gt;" in page.read_text()
    assert "<b>donor</b>" not in page.read_text()
    shown = CliRunner().invoke(app, command)
    assert "donor, prefills: cost: 1 of 1 shards did not record their time" in shown.output


def test_runs_of_other_models_and_parts_of_runs_are_refused(factory: ModuleType, tmp_path: Path) -> None:
    one, other = make_run(factory, tmp_path, "one"), make_run(factory, tmp_path, "other", model_fingerprint="g")
    with pytest.raises(InputError, match="checkpoint-1 is another model"):
        side_by_side([one, other])
    with pytest.raises(InputError, match="given twice"):
        side_by_side([one, one])
    parts = CliRunner().invoke(app, ["compare", f"{one}@1", str(other), "--sources"])
    assert isinstance(parts.exception, InputError)
    assert "whole runs" in str(parts.exception)
