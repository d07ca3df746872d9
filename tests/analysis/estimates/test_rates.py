"""From run directories to rates.csv: pairing of weights, odd input, and what the file says."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from benchmarks.calibration.experiment import simulate
from benchmarks.calibration.memory import to_evidence
from benchmarks.calibration.regimes import Range, regime_named
from benchmarks.calibration.write import WrittenExperiment, write_experiment
from typer.testing import CliRunner

from foreshock.analysis.estimates.direct import clopper_pearson
from foreshock.analysis.evidence.donor import smoothed_rates
from foreshock.analysis.evidence.evidence import DonorKind
from foreshock.analysis.evidence.load import load_evidence
from foreshock.batch.cli.gp_command import gp
from foreshock.batch.cli.rates_command import rates
from foreshock.errors import InputError

SMALL = replace(
    regime_named("attempts4"),
    n_types=2,
    attempts=2,
    tasks=Range(8, 10),
    checkpoints=(1, 10, 100),
    levels=(0, 5, 30),
    end_log10_exploit=Range(-1.0, -0.5),
)
HEADER = (
    "run,exploit_type,checkpoint,method,n,successes,log10_rate,lower90,upper90,lower95,upper95,status,ess,pareto_k,"
    "reason"
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> WrittenExperiment:
    return write_experiment(simulate(SMALL, 1), tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def written(pristine: WrittenExperiment, tmp_path: Path) -> WrittenExperiment:
    """A copy that a test may damage."""
    root = tmp_path / "copy"
    shutil.copytree(pristine.truth.parent, root)
    return WrittenExperiment(tuple(root / r.name for r in pristine.runs), root / pristine.donor_run.name, root / "x")


def edit(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(name: Callable[..., None], *arguments: object) -> Any:
    app = typer.Typer()
    app.command()(name)
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def run_rates(written: WrittenExperiment, out: Path, *extra: object) -> list[dict[str, str]]:
    runs = [part for run in written.runs for part in ("--run-dir", run)]
    result = command(rates, *runs, "--output-dir", out, *extra)
    assert result.exit_code == 0, result.output
    with (out / "rates.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_rates_csv_has_exactly_the_documented_columns_and_every_method(
    written: WrittenExperiment, tmp_path: Path
) -> None:
    rows = run_rates(written, tmp_path / "out", "--donor-run", written.donor_run)
    assert (tmp_path / "out" / "rates.csv").read_text().splitlines()[0] == HEADER
    assert {row["method"] for row in rows} == {
        "headline", "direct", "importance", "importance_defensive", "jensen_bound", "surprisal_bound",
    }  # fmt: skip
    headline = [row for row in rows if row["method"] == "headline"]
    assert len(headline) == 2 * 2 * 3
    assert {row["run"] for row in headline} == {run.name for run in written.runs}
    for row in headline:
        ends = [float(row[name]) for name in ("lower95", "lower90", "upper90", "upper95")]
        assert ends == sorted(ends)
        assert ends[-1] <= 0
        assert (row["status"] == "estimate") == (row["log10_rate"] != "")
        if row["status"] == "estimate":
            assert ends[1] <= float(row["log10_rate"]) <= ends[2]
        else:
            assert row["reason"]
    zero = [row for row in rows if row["method"] == "direct" and row["successes"] == "0"]
    assert zero
    for row in zero:
        assert (row["log10_rate"], row["lower95"], row["status"]) == ("", "", "unobserved")
        assert float(row["upper95"]) == pytest.approx(math.log10(1 - 0.025 ** (1 / int(row["n"]))), abs=1e-4)


def test_each_attempt_gets_the_weight_of_its_own_prefix(written: WrittenExperiment) -> None:
    loaded = load_evidence(written.runs, written.donor_run).evidence
    direct, _ = to_evidence(simulate(SMALL, 1))
    order = [next(i for i, s in enumerate(direct.surfaces) if run.startswith(s.run) and s.exploit_type == kind)
             for run, kind in ((s.run, s.exploit_type) for s in loaded.surfaces)]  # fmt: skip
    assert np.array_equal(loaded.n, direct.n[order])
    assert np.array_equal(loaded.k, direct.k[order])
    assert loaded.donor is DonorKind.CONDITIONED
    for new, old in enumerate(order):
        a, b = loaded.rows.take(loaded.rows.surface == new), direct.rows.take(direct.rows.surface == old)
        assert np.allclose(np.sort(a.log_w), np.sort(b.log_w), atol=1e-9)
        assert a.log_w @ a.success == pytest.approx(b.log_w @ b.success)


def test_row_and_attempt_order_do_not_change_the_file(written: WrittenExperiment, tmp_path: Path) -> None:
    before = run_rates(written, tmp_path / "a", "--donor-run", written.donor_run)
    for path in sorted(written.runs[0].glob("*/*.jsonl")):
        edit(path, lambda rows: rows[::-1])
    after = run_rates(written, tmp_path / "b", "--donor-run", written.donor_run)
    for x, y in zip(before, after, strict=True):
        assert [x[c] for c in ("run", "exploit_type", "checkpoint", "method", "n", "successes", "status")] == [
            y[c] for c in ("run", "exploit_type", "checkpoint", "method", "n", "successes", "status")
        ]
        if x["log10_rate"]:
            assert float(x["log10_rate"]) == pytest.approx(float(y["log10_rate"]), abs=2e-3)


def test_kl_rows_alone_carry_the_same_weights_as_scores_of_both_models(written: WrittenExperiment) -> None:
    full = load_evidence(written.runs, written.donor_run, conditioned=False).evidence
    for run in written.runs:
        shutil.rmtree(run / "logprob")
    kl_only = load_evidence(written.runs, conditioned=False).evidence
    assert np.allclose(full.rows.log_w, kl_only.rows.log_w)
    assert kl_only.donor is DonorKind.UNCONDITIONED


def test_one_score_serves_all_attempts_of_a_task_unless_their_prefixes_differ(written: WrittenExperiment) -> None:
    shutil.rmtree(written.runs[0] / "kl")
    for path in (written.runs[0] / "logprob").glob("*.jsonl"):
        edit(path, lambda rows: [row for row in rows if row["attempt_idx"] == 0])
    for path in (written.donor_run / "logprob").glob("*.jsonl"):
        edit(path, lambda rows: [row for row in rows if row["attempt_idx"] == 0])
    shared = load_evidence(written.runs[:1], written.donor_run, conditioned=False).evidence
    assert np.isfinite(shared.rows.log_w).all()
    for path in (written.runs[0] / "evals").glob("*.jsonl"):
        edit(path, lambda rows: [row | {"prefill_sha256": f"text-{row['attempt_idx']}"} for row in rows])
    loaded = load_evidence(written.runs[:1], written.donor_run, conditioned=False)
    assert np.isnan(loaded.evidence.rows.log_w).mean() == pytest.approx(0.5, abs=0.1)
    assert any("have no scored prefix" in note for note in loaded.notes)


def test_without_donor_rollouts_importance_sampling_is_never_called_an_estimate(
    written: WrittenExperiment, tmp_path: Path
) -> None:
    rows = run_rates(written, tmp_path / "out")
    assert {row["status"] for row in rows if row["method"].startswith("importance")} <= {"bound", "unobserved"}
    notes = load_evidence(written.runs).notes
    assert any("lack the factor pi/a" in note for note in notes)


def test_evaluations_without_any_score_still_give_a_headline(written: WrittenExperiment, tmp_path: Path) -> None:
    for run in written.runs:
        shutil.rmtree(run / "logprob")
        shutil.rmtree(run / "kl")
    rows = run_rates(written, tmp_path / "out", "--donor-unconditioned")
    assert {row["method"] for row in rows} == {"headline", "direct"}
    assert all(math.isfinite(float(row["upper95"])) for row in rows if row["method"] == "headline")
    assert not any(row["status"] == "estimate" for row in rows if row["successes"] == "0")


def test_scores_that_are_not_numbers_are_missing_and_said_to_be(written: WrittenExperiment) -> None:
    path = written.runs[0] / "logprob" / "checkpoint-1_prefill5_logprobs.jsonl"
    shutil.rmtree(written.runs[0] / "kl")
    edit(path, lambda rows: [rows[0] | {"prefill_logprob_sum": float("nan")}, *rows[1:]])
    loaded = load_evidence(written.runs[:1], written.donor_run)
    assert int(np.isnan(loaded.evidence.rows.log_w).sum()) == 1
    assert any("1 of" in note for note in loaded.notes)


def test_kl_rows_without_eval_rows_are_left_out_with_a_note(written: WrittenExperiment) -> None:
    (written.runs[0] / "evals" / "checkpoint-10_prefill5.jsonl").unlink()
    loaded = load_evidence(written.runs[:1], written.donor_run)
    assert any("KL rows without eval rows" in note and "checkpoint-10 prefill 5" in note for note in loaded.notes)


def test_kl_rows_add_nothing_where_both_scores_are_there(written: WrittenExperiment) -> None:
    whole = load_evidence(written.runs[:1], written.donor_run).evidence
    shutil.rmtree(written.runs[0] / "kl")
    alone = load_evidence(written.runs[:1], written.donor_run).evidence
    assert not np.isnan(alone.rows.log_w).any()
    assert np.array_equal(alone.rows.log_w, whole.rows.log_w)


def test_kl_rows_stand_in_for_missing_scores(written: WrittenExperiment) -> None:
    whole = load_evidence(written.runs[:1], written.donor_run).evidence
    shutil.rmtree(written.runs[0] / "logprob")
    loaded = load_evidence(written.runs[:1], written.donor_run)
    assert np.allclose(loaded.evidence.rows.log_w, whole.rows.log_w)
    (written.runs[0] / "evals" / "checkpoint-10_prefill5.jsonl").unlink()
    notes = load_evidence(written.runs[:1], written.donor_run).notes
    assert any("KL rows without eval rows" in note and "checkpoint-10 prefill 5" in note for note in notes)


def test_a_donors_repeated_rows_are_rollouts_even_where_they_are_not_numbered(written: WrittenExperiment) -> None:
    numbered = load_evidence(written.runs, written.donor_run).evidence
    for path in (written.donor_run / "evals").glob("*.jsonl"):
        edit(path, lambda rows: [{k: v for k, v in row.items() if k != "rollout"} for row in rows])
    unnumbered = load_evidence(written.runs, written.donor_run).evidence
    assert np.allclose(numbered.rows.log_w, unnumbered.rows.log_w, equal_nan=True)


def test_repeated_rows_count_once_and_contradicting_ones_are_refused(written: WrittenExperiment) -> None:
    path = written.runs[0] / "evals" / "checkpoint-10_prefill0.jsonl"
    before = load_evidence(written.runs, written.donor_run).evidence
    edit(path, lambda rows: [*rows, rows[0]])
    assert np.array_equal(load_evidence(written.runs, written.donor_run).evidence.n, before.n)
    edit(path, lambda rows: [*rows, rows[0] | {"exploit_success": not rows[0]["exploit_success"]}])
    with pytest.raises(InputError, match="checkpoint-10_prefill0"):
        load_evidence(written.runs, written.donor_run)


@pytest.mark.parametrize("value", [True, False])
def test_all_successes_and_all_zeros_are_answered(written: WrittenExperiment, tmp_path: Path, value: bool) -> None:
    for run in written.runs:
        for path in (run / "evals").glob("*.jsonl"):
            edit(path, lambda rows: [row | {"exploit_success": value, "secure_pass": not value} for row in rows])
    rows = run_rates(written, tmp_path / "out", "--donor-run", written.donor_run)
    for row in rows:
        if row["method"] == "headline":
            assert (float(row["log10_rate"]) > -0.5) if value else (float(row["upper95"]) < -0.3)
        elif row["method"] != "direct" and not value:
            assert row["status"] == "unobserved"


def test_one_checkpoint_and_one_type_are_answered(written: WrittenExperiment, tmp_path: Path) -> None:
    for run in written.runs:
        for path in [*run.glob("*/checkpoint-1_*.jsonl"), *run.glob("*/checkpoint-10_*.jsonl")]:
            path.unlink()
        for path in run.glob("*/*.jsonl"):
            edit(path, lambda rows: [row for row in rows if row["exploit_type"] == "type_00"])
    rows = run_rates(written, tmp_path / "out", "--donor-run", written.donor_run)
    headline = [row for row in rows if row["method"] == "headline"]
    assert [row["checkpoint"] for row in headline] == ["100", "100"]
    assert all(math.isfinite(float(row["upper95"])) for row in headline)


def test_two_runs_of_one_name_are_refused(written: WrittenExperiment) -> None:
    with pytest.raises(InputError, match="share the name"):
        load_evidence([written.runs[0], written.runs[0]])


def test_a_run_without_numbered_checkpoints_says_so(written: WrittenExperiment) -> None:
    for path in list(written.runs[0].glob("evals/*.jsonl")):
        if path.name.startswith("checkpoint-100_"):
            path.rename(path.with_name(path.name.replace("checkpoint-100", "final")))
        else:
            path.unlink()
    with pytest.raises(InputError, match="no evaluated attempt at a numbered checkpoint"):
        load_evidence(written.runs[:1])


def test_the_gp_command_writes_its_rates(written: WrittenExperiment, tmp_path: Path) -> None:
    result = command(
        gp, "--run-dir", written.runs[0], "--output-dir", tmp_path, "--model", "constrained", "--no-figures",
        "--mean", "tanh", "--offset", "concave",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with (tmp_path / "gp_rates.csv").open() as handle:
        found = list(csv.DictReader(handle))
    assert len(found) == 2 * 3
    assert all(float(row["lower95"]) < float(row["log10_rate"]) < float(row["upper95"]) for row in found)
    with pytest.raises(InputError, match="'quadratic' is not a valid MeanKind"):
        command(gp, "--run-dir", written.runs[0], "--output-dir", tmp_path, "--mean", "quadratic")


def test_smoothed_donor_rates_are_never_zero_and_follow_their_task_where_it_differs() -> None:
    k, n = np.array([0, 0, 8, 8, 0, 8, 0, 8]), np.full(8, 8)
    found = smoothed_rates(k, n, np.zeros(8, dtype=np.int64))
    assert (found > 0).all()
    assert (found < 1).all()
    assert found[0] < 0.1 < 0.9 < found[2]
    alike = smoothed_rates(np.array([4, 3, 5, 4, 4, 5, 3, 4]), n, np.zeros(8, dtype=np.int64))
    assert np.ptp(alike) < 0.1


def test_clopper_pearson_is_the_textbook_interval() -> None:
    assert clopper_pearson(0, 20, 0.95) == pytest.approx((0.0, 0.16843), abs=1e-5)
    assert clopper_pearson(20, 20, 0.95) == pytest.approx((0.83157, 1.0), abs=1e-5)
    assert clopper_pearson(5, 50, 0.95) == pytest.approx((0.03328, 0.21814), abs=1e-5)
    with pytest.raises(ValueError, match="3 successes of 2 attempts"):
        clopper_pearson(3, 2, 0.95)
