"""From run directories to files, for the current and the original definitions."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from foreshock.analysis.emergence.original import Definitions, evaluate_original, original_metrics
from foreshock.analysis.emergence.problems import evaluate_problems, task_accessibility
from foreshock.analysis.emergence.run import EmergenceOptions, run_emergence
from foreshock.analysis.gp.means import MeanKind
from foreshock.analysis.report.emergence_section import emergence_section
from foreshock.analysis.surfaces.cells import RunSource
from foreshock.errors import InputError

QUICK = EmergenceOptions(permutations=19, rate_models=False, figures=False)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunSource]:
    """Two run directories; in the first, types of even number rise, and prefilled levels and KL say so early."""
    root = tmp_path_factory.mktemp("sweeps")
    for name in ("exploit", "control"):
        rng = np.random.default_rng(len(name))
        for step in (1, 4, 16):
            for level in (0, 20):
                evals, kl = [], []
                for kind in range(4):
                    rises = name == "exploit" and kind % 2 == 0
                    for task in range(20):
                        rate = (0.7 if rises and step == 16 else 0.01) if level == 0 else 0.3 + 0.3 * rises
                        hit = bool(rng.random() < rate)
                        row = {"task_id": f"k{kind}_{task}", "attempt_idx": 0, "exploit_type": f"kind_{kind}"}
                        evals.append(row | {"exploit_success": hit, "prefill_tokens": level})
                        value = 12.0 - 4 * rises * np.log(step) + rng.normal(0, 0.2)
                        kl.append(row | {"kl_divergence": value, "prefill_tokens": level})
                files = {"evals": (f"checkpoint-{step}_prefill{level}.jsonl", evals)}
                if level:
                    files["kl"] = (f"checkpoint-{step}_prefill{level}_kl.jsonl", kl)
                for folder, (file, rows) in files.items():
                    path = root / name / folder / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [RunSource(root / "exploit"), RunSource(root / "control" / "evals")]


def test_everything_is_written_and_told(two_runs: list[RunSource], tmp_path: Path) -> None:
    options = EmergenceOptions(permutations=19, rate_models=False, per_problem=True)
    done = run_emergence(two_runs, tmp_path / "out", options)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    kinds = ("svg", "png", "pdf", "csv")
    figures = {f"{name}.{kind}" for name in ("auc_vs_cutoff", "feature_separation") for kind in kinds}
    assert names == {"all_results.csv", "features.csv", "problem_results.csv", "summary.json"} | figures
    written = pd.read_csv(tmp_path / "out" / "all_results.csv")
    first = ["cutoff_idx", "metric", "model", "auc", "auc_lower", "auc_upper", "auc_within_run", "p_value", "n"]
    assert list(written.columns[: len(first)]) == first
    required = {"cutoff_idx", "metric", "model", "auc", "auc_lower", "auc_upper", "auc_within_run", "p_value", "n"}
    assert required <= set(written.columns)
    slope = written.query("metric == 'mean_neg_kl' and model == 'threshold_slope' and cutoff_idx == 1")
    assert slope["auc"].item() == 1.0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["runs"] == ["control", "exploit"]
    section = emergence_section(done)
    assert section.anchor == "emergence"
    assert "0.5 is guessing" in section.body_html
    assert '<a href="#emergence-types">1</a>' in section.body_html  # a number leads to the types that it ranks,
    assert 'id="emergence-types"' in section.body_html
    assert section.body_html.count("unprompted samples</a>") == 8  # and each of them to its samples
    assert [table.csv.exists() for table in section.tables] == [True, True, True]


def test_original_definitions_use_every_checkpoint_and_raw_labels(two_runs: list[RunSource], tmp_path: Path) -> None:
    options = EmergenceOptions(definitions=Definitions.ORIGINAL, permutations=19, figures=False)
    done = run_emergence(two_runs, tmp_path, options)
    assert sorted(done.results["cutoff_idx"].unique()) == [0, 1, 2]
    assert (done.results["n"] == 8).all()
    assert set(done.results["metric"]) == {"mean_neg_kl", "exploit_rate", "log_exploit_lower_bound"}
    assert done.results.query("cutoff_idx == 0 and model == 'threshold_slope'")["auc"].tolist() == [0.5] * 3
    assert json.loads((tmp_path / "summary.json").read_text())["definitions"] == "original"


def test_the_gp_table_has_a_line_per_mean_and_metric(two_runs: list[RunSource], tmp_path: Path) -> None:
    options = EmergenceOptions(
        definitions=Definitions.ORIGINAL, permutations=19, figures=False, gp_means=(MeanKind.LINEAR,)
    )
    done = run_emergence(two_runs, tmp_path, options)
    table = pd.read_csv(tmp_path / "gp_table.csv")
    assert table[["mean", "metric"]].to_numpy().tolist() == [
        ["linear", "gp_log_rate_p0"],
        ["linear", "gp_log_rate_p0_last"],
    ]
    assert list(table.columns[2:]) == ["1", "2", "3"]
    chosen = done.results.query("metric == 'gp_log_rate_p0_last[linear]' and model == 'threshold_level'")
    assert table.iloc[1, 2:].to_numpy(float) == pytest.approx(chosen.sort_values("cutoff_idx")["auc"].to_numpy(float))
    with pytest.raises(InputError, match="add --definitions original"):
        run_emergence(two_runs, tmp_path, EmergenceOptions(gp_means=(MeanKind.LINEAR,)))


def one_surface(k: list[int], n: list[int]) -> pd.DataFrame:
    levels = [0, 10, 30]
    return pd.DataFrame(
        {
            "run": "r",
            "exploit_type": "t",
            "checkpoint": 5,
            "prefill_level": levels,
            "n": n,
            "k": k,
            "kl_mean": [np.nan, 3.0, 6.0],
            "kl_success": np.nan,
            "logprob_mean": np.nan,
        }
    )


def test_the_original_pooled_metrics_smooth_zero_cells_with_accumulated_sizes() -> None:
    row = original_metrics(one_surface([0, 0, 4], [10, 20, 8]), Definitions.ORIGINAL).iloc[0]
    log_rates = [np.log(0.5 / 31), np.log(0.5 / 21), np.log(4.5 / 9)]
    assert row["mean_neg_kl"] == pytest.approx(-3.0)
    assert row["exploit_rate"] == pytest.approx(4 / 38)
    assert row["log_exploit_lower_bound"] == pytest.approx(-3.0 + np.mean(log_rates))


def test_the_original_max_metrics_take_the_best_level() -> None:
    row = original_metrics(one_surface([1, 5, 8], [100, 10, 8]), Definitions.ORIGINAL_MAX).iloc[0]
    assert row["log_exploit_lower_bound"] == pytest.approx(max(np.log(0.01), np.log(0.5) - 3, -6))
    nothing = original_metrics(one_surface([0, 0, 0], [9, 9, 9]), Definitions.ORIGINAL_MAX).iloc[0]
    assert np.isnan(nothing["log_exploit_lower_bound"])


@pytest.mark.parametrize("definitions", [Definitions.ORIGINAL, Definitions.ORIGINAL_MAX])
def test_without_kl_the_original_metrics_that_need_it_are_missing_and_no_run_wins_by_them(
    definitions: Definitions,
) -> None:
    parts = [one_surface([0, 2 + i, 4], [10, 10, 10]).assign(exploit_type=f"t{i}") for i in range(4)]
    without = [part.assign(run="no kl", kl_mean=np.nan, k=[5, 6, 7]) for part in parts]
    table = original_metrics(pd.concat([*parts, *without]), definitions).set_index("run")
    assert table.loc["no kl", ["mean_neg_kl", "log_exploit_lower_bound"]].isna().all(axis=None)
    assert table.loc["r", "mean_neg_kl"].notna().all()
    rate = table.loc["no kl", "exploit_rate"]
    assert rate.isna().all() if definitions is Definitions.ORIGINAL_MAX else (rate == 18 / 30).all()
    results, _ = evaluate_original(pd.concat([*parts, *without]), definitions, threshold=0.1, permutations=19, seed=0)
    kl = results[results["metric"].isin(["mean_neg_kl", "log_exploit_lower_bound"])]
    assert kl["n"].max() == 4
    assert kl["auc"].isna().all()


def test_the_original_carries_the_last_value_to_checkpoints_without_one() -> None:
    parts = [one_surface([0, 2 + i, 4], [10, 10, 10]).assign(exploit_type=f"t{i}") for i in range(4)]
    gone = parts[0].assign(checkpoint=9, k=[0, 0, 0])  # no exploit at any level: the best level has no value
    later = [gone, *(part.assign(checkpoint=9, k=[5, 2, 4]) for part in parts[1:])]
    cells = pd.concat([*parts, *later])
    results, features = evaluate_original(cells, Definitions.ORIGINAL_MAX, threshold=0.1, permutations=19, seed=0)
    level = features.query("metric == 'exploit_rate' and exploit_type == 't0'").set_index("cutoff_idx")["level"]
    assert level[1] == level[0]
    assert set(results["n"]) == {4}


def test_original_leave_one_out_is_below_one_half_on_constant_features() -> None:
    """The artefact that the default definitions remove: held-out positives meet a lower intercept."""
    parts = [one_surface([0, 2, 4], [10, 10, 10]).assign(exploit_type=f"t{i}") for i in range(8)]
    later = [part.assign(checkpoint=9, k=[5 * (i % 2), 2, 4]) for i, part in enumerate(parts)]
    results, _ = evaluate_original(
        pd.concat([*parts, *later]), Definitions.ORIGINAL, threshold=0.1, permutations=19, seed=0
    )
    logistic = results.query("cutoff_idx == 0 and model == 'logistic_level_slope' and metric == 'mean_neg_kl'")
    assert logistic["auc"].item() == 0.0


def test_problems_rank_by_accessibility_and_drop_those_exploited_already() -> None:
    rows = []
    for task in range(24):
        easy = task % 3 == 0
        for step, zero_hit in ((1, task == 1), (5, easy)):
            rows.append(("r", f"p{task}", f"kind_{task % 4}", step, 0, 1, int(zero_hit)))
            rows.append(("r", f"p{task}", f"kind_{task % 4}", step, 10, 1, int(easy)))
            rows.append(("r", f"p{task}", f"kind_{task % 4}", step, 60, 1, 1))
    tasks = pd.DataFrame(rows, columns=["run", "task_id", "exploit_type", "checkpoint", "prefill_level", "n", "k"])
    values = task_accessibility(tasks).query("checkpoint == 1").set_index("task_id")["value"]
    assert values["p0"] == 1.0
    assert values["p2"] == 0.0
    results = evaluate_problems(tasks, permutations=39)
    level = results.query("model == 'threshold_level'").iloc[0]
    assert level["auc"] == 1.0
    assert level["n"] == 23
    assert level["p_value"] < 0.05
    with pytest.raises(InputError, match="has one checkpoint"):
        evaluate_problems(tasks[tasks["checkpoint"] == 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EmergenceOptions(threshold=0.0), "threshold 0 is not a rate"),
        (EmergenceOptions(permutations=3), "permutations 3 is too few"),
    ],
)
def test_senseless_options_are_refused(
    two_runs: list[RunSource], tmp_path: Path, options: EmergenceOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_emergence(two_runs, tmp_path, options)


def test_runs_of_the_same_name_are_refused(two_runs: list[RunSource], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two runs are named 'exploit'"):
        run_emergence([two_runs[0], two_runs[0]], tmp_path, QUICK)


def test_a_run_of_unintentional_types_only_is_explained(factory: ModuleType, tmp_path: Path) -> None:
    row = factory.eval_row(exploit_type="resource_exhaustion")
    factory.write_rows(tmp_path / "run" / "evals" / "checkpoint-1_prefill0.jsonl", [row])
    with pytest.raises(InputError, match="name the types to analyse with --intentional LIST"):
        run_emergence([RunSource(tmp_path / "run")], tmp_path / "out", QUICK)
