"""The commands of the tool that foreshock replaces, in its manual's order, with the names of docs/replaces.md."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from foreshock.__main__ import main
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.verify.builtin.problems import builtin_problems


@pytest.mark.early
@pytest.mark.usefixtures("svg_alone", "in_this_process")
def test_the_old_manual_runs_through(
    tmp_path: Path, sft_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every evaluation, then trajectory, scores and integration, then the whole analysis by one command."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sft_run, "results/sft_checkpoints/sft_tiny")
    reasoning = "The verifier looks at the first case only, so a constant passes and I return it right away. " * 3
    rows = [{"task_id": p.id, "reasoning": reasoning, "exploit_success": True} for p in builtin_problems("eval")[:3]]
    write_jsonl(Path("exploits.jsonl"), rows)
    checkpoints = Path("results/sft_checkpoints/sft_tiny/checkpoints")
    run = "results/prefill_sensitivity/prefill_sensitivity-20260101-000000"

    def foreshock(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["foreshock", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert not left.value.code, said.err
        return said.out

    for step in (1, 2):
        for level in (0, 10):
            foreshock(
                "eval", checkpoints / f"checkpoint-{step}", "--prefill-from", "exploits.jsonl", "--output",
                f"{run}/evals/checkpoint-{step}_prefill{level}.jsonl", "--prefill-tokens", str(level),
                "--num-attempts", "2", "--max-problems", "3", "--max-tokens", "6", "--device", "cpu",
            )  # fmt: skip
    foreshock(
        "trajectory", "--run-dir", run, "--output-dir", "results/trajectory_analysis", "--threshold", "10",
        "--no-figures",
    )  # fmt: skip
    foreshock(
        "trajectory", "--run-dir", run, "--output-dir", "results/trajectory_analysis", "--threshold", "10",
        "--use-run-context", "--no-figures",
    )  # fmt: skip
    (dated,) = Path("results/trajectory_analysis").glob("trajectory_analysis-*")
    assert json.loads((dated / "status.json").read_text())["status"] == "completed"
    foreshock(
        "logprob", f"{run}/evals/checkpoint-1_prefill10.jsonl.samples.jsonl", "--checkpoint",
        checkpoints / "checkpoint-1", "--output", "results/logprob_analysis/one/checkpoint-1_prefill10.jsonl",
        "--dtype", "float32", "--device", "cpu",
    )  # fmt: skip
    foreshock(
        "logprob", "--prefill-run-dir", run, "--sft-run-dir", "results/sft_checkpoints/sft_tiny", "--output-dir",
        "results/logprob_analysis/logprob-tiny", "--device", "cpu",
    )  # fmt: skip
    single = read_rows(Path("results/logprob_analysis/one/checkpoint-1_prefill10.jsonl"))
    whole = read_rows(Path("results/logprob_analysis/logprob-tiny/logprob/checkpoint-1_prefill10_logprobs.jsonl"))
    assert [row["prefill_logprob_sum"] for row in single] == pytest.approx([r["prefill_logprob_sum"] for r in whole])
    integrate = (
        "integrate", "--trajectory-csv", "results/trajectory_analysis", "--logprob-dirs",
        "results/logprob_analysis/logprob-tiny", "--output-dir", "results/trajectory_analysis_with_logprob_complete",
        "--prefill-levels", "10", "--logprob-threshold", "-55.39", "--no-figures",
    )  # fmt: skip
    foreshock(*integrate)
    foreshock(*integrate, "--use-run-context")
    joined = pd.read_csv("results/trajectory_analysis_with_logprob_complete/trajectory_with_logprob.csv")
    assert len(joined) == 3 * 2
    assert "log-probabilities of 2 cells are computed" in foreshock(
        "analyse", "--dry-run", "--checkpoint-dir", checkpoints, "--temperature", "1"
    )
    assert "stay missing: --skip-logprob" in foreshock("analyse", run, "--skip-logprob", "--dry-run")
    foreshock("analyse", run, "--checkpoint-dir", checkpoints, "--temperature", "1", "--without", "forecast,rates")
    newest = max(Path("results/full_analysis").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(list((newest / "logprob").glob("*.jsonl"))) == 2
    assert (newest / "report.html").is_file()
