"""`foreshock logprob` on a whole run: which cells are scored, and where their prompts come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.on_files.score import RunScorer, ScoreOptions, score_one_file, score_run
from foreshock.batch.planning.checkpoints import list_checkpoints
from foreshock.errors import InputError
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import CellName, RunLayout


def rows(checkpoint: int, text: str = "I see a gap") -> list[dict[str, Any]]:
    return [
        {
            "task_id": f"t{i}",
            "attempt_idx": 0,
            "exploit_type": "x",
            "exploit_success": checkpoint == 2,
            "prefill_tokens": 2,
            "prefill_reasoning": text,
        }
        for i in range(2)
    ]


def write_cell(run: RunLayout, step: int, samples: bool, text: str = "I see a gap") -> None:
    own = rows(step, text)
    write_jsonl(run.eval_file(f"checkpoint-{step}", 2), own)
    if samples:
        write_jsonl(
            run.samples_file(f"checkpoint-{step}", 2), [row | {"prompt": "Add.", "system": None} for row in own]
        )


def scorer(run: RunLayout, sft: Path, **options: Any) -> RunScorer:
    how = ScoreOptions(1.0, "auto", "cpu", "float32", 4, False, None, False)
    return RunScorer(
        run=run,
        checkpoints=list_checkpoints(sft / "checkpoints", "sft"),
        output=run.logprob,
        engine=FakeEngine(),
        format_of=how.format_of,
        temperature=1.0,
        **options,
    )


def test_a_cell_whose_samples_are_gone_takes_anothers_prompts_and_its_own_outcomes(
    tmp_path: Path, sft_run: Path
) -> None:
    run = RunLayout(tmp_path)
    write_cell(run, 1, samples=True)
    write_cell(run, 2, samples=False)
    report = scorer(run, sft_run).score()
    assert report.borrowed == {"checkpoint-2 at 2 words": "checkpoint-1", "checkpoint-4 at 2 words": "checkpoint-1"}
    found = {step: read_rows(run.logprob_file(f"checkpoint-{step}", 2)) for step in (1, 2, 4)}
    assert [row["exploit_success"] for step in (1, 2, 4) for row in found[step]] == [False] * 2 + [True] * 2 + [
        None
    ] * 2
    assert all(row["prefill_num_tokens"] > 0 for step in found for row in found[step])


def test_an_outcome_of_another_text_is_not_taken(tmp_path: Path, sft_run: Path) -> None:
    run = RunLayout(tmp_path)
    write_cell(run, 1, samples=True)
    write_cell(run, 2, samples=False, text="Some other words")
    scorer(run, sft_run, only=frozenset({CellName("checkpoint-2", 2)})).score()
    assert [path.name for path in run.logprob.iterdir()] == ["checkpoint-2_prefill2_logprobs.jsonl"]
    assert [row["exploit_success"] for row in read_rows(run.logprob_file("checkpoint-2", 2))] == [None, None]


def test_a_level_without_any_prompt_is_refused(tmp_path: Path, sft_run: Path) -> None:
    run = RunLayout(tmp_path)
    write_cell(run, 1, samples=False)
    with pytest.raises(InputError, match="no checkpoint has samples of level 2"):
        scorer(run, sft_run).score()
    assert json.loads((run.evals / "checkpoint-1_prefill2.jsonl").read_text().splitlines()[0])["task_id"] == "t0"


def test_a_checkpoint_that_a_run_would_not_admit_is_not_scored(tmp_path: Path, sft_run: Path) -> None:
    run, sft = RunLayout(tmp_path / "run"), tmp_path / "sft"
    write_cell(run, 1, samples=True)
    shutil.copytree(sft_run / "checkpoints" / "checkpoint-1", sft / "checkpoint-1")
    file = sft / "checkpoint-1" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"split_special_tokens": True}))
    how = ScoreOptions(1.0, "auto", "cpu", "float32", 4, False, None, False)
    with pytest.raises(InputError, match="but is read as text"):
        score_run(run.root, sft, None, how)
    samples = run.samples_file("checkpoint-1", 2)
    with pytest.raises(InputError, match="but is read as text"):
        score_one_file(samples, sft / "checkpoint-1", tmp_path / "out.jsonl", how)
