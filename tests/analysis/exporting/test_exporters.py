"""What is exported is what the run holds, read back by the other tool's own reader; unknowns stay unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from hostile_texts import HOSTILE
from typer.testing import CliRunner

from foreshock.analysis.exporting.spec import EXPORTERS
from foreshock.analysis.tables import load_evals
from foreshock.batch.cli.app import app
from foreshock.errors import InputError
from foreshock.jobs.records.table_archives import join_tables


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, factory: ModuleType) -> Path:
    toy = factory.ToyRun(checkpoints=(5, "final"), levels=(0, 10), tasks_per_type=2, types=("leak", "flag"))
    path: Path = factory.write_run(tmp_path_factory.mktemp("results") / "toy-20260101-000000-abcdef0", toy)
    table = path / "evals" / "checkpoint-5_prefill10.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[0] |= {"exploit_success": None, "secure_pass": None, "insecure_pass": None, "error": "out of memory"}
    for row in rows:
        row |= {"prompt": "Solve it.", "response": "\n".join(HOSTILE.values()), "code": None, "own_key": [1, {"a": 2}]}
        row["insecure_suspect"] = "true"
        row |= {"insecure_suspect_patterns": list(HOSTILE.values()), "secure_detail": "\n".join(HOSTILE.values())}
    table.with_name(f"{table.name}.samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def export(run: Path, to: str, folder: Path) -> list[Path]:
    folder.mkdir()
    return EXPORTERS.get(to).write(run, folder, lambda done, total: None)


def test_parquet_holds_every_row_with_its_type(run_dir: Path, tmp_path: Path) -> None:
    written = {path.name for path in export(run_dir, "parquet", tmp_path / "out")}
    assert written == {"evals.parquet", "logprob.parquet", "ref_logprob.parquet", "kl.parquet"}
    frame = pq.read_table(tmp_path / "out" / "evals.parquet").to_pandas()
    evals = load_evals(run_dir)
    assert len(frame) == len(evals)  # the tables behind the samples have all verdicts
    assert frame["exploit_success"].isna().sum() == 1
    assert set(frame["checkpoint"]) == {"5", "final"}
    marked = frame[frame["error"].notna()].iloc[0]
    assert marked["exploit_success"] is None
    assert marked["insecure_suspect"] is None
    assert json.loads(marked["other"]) == {"own_key": [1, {"a": 2}], "insecure_suspect": "true"}
    assert "half ? pair" in marked["response"]


def test_parquet_has_scores_of_exploit_code(run_dir: Path, tmp_path: Path, factory: ModuleType) -> None:
    shutil.copytree(run_dir, run := tmp_path / "run")
    factory.write_rows(
        run / "exploit_logprob" / "final.jsonl",
        [{"task_id": "a", "exploit_logprob_sum": -3.0, "reasoning_before": "honest", "honest_words": 9}],
    )
    export(run, "parquet", tmp_path / "out")
    (code,) = pq.read_table(tmp_path / "out" / "exploit_logprob.parquet").to_pylist()
    assert (code["exploit_logprob_sum"], code["honest_words"], code["checkpoint"]) == (-3.0, 9, "final")


def test_inspect_reads_its_logs(run_dir: Path, tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason="needs inspect_ai: pip install 'foreshock[inspect]'")
    written = export(run_dir, "inspect", tmp_path / "logs")
    assert len(written) == 4
    found: Any = log.read_eval_log(str(tmp_path / "logs" / "checkpoint-5_prefill10.eval"))
    assert found.status == "success"
    assert found.eval.model.endswith("checkpoint-5")
    exploit = next(score for score in found.results.scores if score.name == "exploit")
    evals = load_evals(run_dir)
    cell = evals[(evals["checkpoint"] == 5) & (evals["prefill_level"] == 10)]
    assert exploit.unscored_samples == 1
    assert exploit.scored_samples == len(cell) - 1
    unscored = [sample for sample in found.samples if not sample.scores]
    assert len(unscored) == 1
    assert unscored[0].output.error == "out of memory"
    assert len({(sample.id, sample.epoch) for sample in found.samples}) == len(cell)
    assert any("half ? pair" in text for text in found.samples[0].metadata["insecure_suspect_patterns"])
    assert "half ? pair" in found.samples[1].scores["secure"].explanation


def test_attempts_whose_texts_were_not_kept_are_exported_too(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "few"))
    samples = run / "evals" / "checkpoint-5_prefill10.jsonl.samples.jsonl"
    samples.write_text(samples.read_text().split("\n")[0] + "\n")
    export(run, "parquet", tmp_path / "out")
    frame = pq.read_table(tmp_path / "out" / "evals.parquet").to_pandas()
    assert len(frame) == len(load_evals(run))
    assert frame["response"].notna().sum() == 1


def test_files_are_the_tables_of_a_run_whose_tables_lie_in_archives(run_dir: Path, tmp_path: Path) -> None:
    large = Path(shutil.copytree(run_dir, tmp_path / "large"))
    folders = ("evals", "logprob", "ref_logprob", "kl")
    for folder in folders:
        join_tables(large / folder, 1)
    assert not list(large.rglob("*.jsonl"))
    written = export(large, "files", tmp_path / "out")
    want = {path for folder in folders for path in (run_dir / folder).glob("*.jsonl")}
    assert {path.relative_to(tmp_path / "out"): path.read_bytes() for path in written if path.suffix == ".jsonl"} == {
        path.relative_to(run_dir): path.read_bytes() for path in want
    }
    assert load_evals(tmp_path / "out").drop(columns="run").equals(load_evals(run_dir).drop(columns="run"))


def test_the_command_refuses_a_folder_that_holds_something(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        CliRunner().invoke(
            app, ["export", str(run_dir), "--to", "parquet", "-o", str(tmp_path)], catch_exceptions=False
        )
    done = CliRunner().invoke(app, ["export", str(run_dir), "--to", "parquet", "-o", str(tmp_path / "new")])
    assert done.exit_code == 0
    assert "4 files" in done.output


def test_an_unknown_format_names_the_valid_ones(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown exporter 'excel'; valid: files, hub, inspect, mlflow, parquet,"):
        EXPORTERS.get("excel")
