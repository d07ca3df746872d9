"""Log loss of control tasks against plain forward passes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from foreshock.batch.cli.log_loss_command import loss_in_words
from foreshock.batch.on_files.log_loss import measure_log_loss, read_control_tasks, summarise
from foreshock.batch.on_files.score import ScoreOptions
from foreshock.errors import InputError
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.records.jsonl import read_rows
from foreshock.jobs.records.spec import Checkpoint

ROWS: list[dict[str, object]] = [
    {"task_id": "a", "prompt": "Add.", "completion": "Four.", "reasoning": "I add the two", "task_type": "sum"},
    {"task_id": "b", "prompt": "Name.", "completion": "An oak.", "reasoning": "Oaks are trees", "task_type": "name"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_losses_are_those_of_plain_forward_passes(tiny: Checkpoint, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    tasks = read_control_tasks(write(tmp_path / "t.jsonl", [*ROWS]), [0, 2])
    options = ScoreOptions(1.0, "auto", "cpu", "float32", 4, False, None, False)
    report = measure_log_loss([tiny], tasks, [0, 2], tmp_path / "out", options)
    model = AutoModelForCausalLM.from_pretrained(tiny.path, dtype=torch.float32)
    prompt_format = checkpoint_format("auto", tiny)
    rows = {(row["task_id"], row["prefill_level"]): row for row in read_rows(report.files[0])}
    for task in tasks:
        for level in (0, 2):
            forced = " ".join(task.reasoning.split()[:level])
            prompt = prompt_format.render_answer(None, task.prompt, forced, task.answer)
            with torch.no_grad():
                logits = model(torch.tensor([prompt.token_ids])).logits[0].double().log_softmax(-1)
            places = range(prompt.prefill_start, len(prompt.token_ids))
            expected = -sum(float(logits[i - 1, prompt.token_ids[i]]) for i in places) / len(places)
            assert rows[task.task_id, level]["log_loss"] == pytest.approx(expected, abs=1e-4)
    everything = report.summary.query("task_type == 'all' and prefill_level == 0").iloc[0]
    assert everything["log_loss"] == pytest.approx((rows["a", 0]["log_loss"] + rows["b", 0]["log_loss"]) / 2)
    assert everything["n"] == 2
    assert set(report.summary["task_type"]) == {"all", "sum", "name"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "completion is missing"),
        ({"prompt": "x", "completion": "y"}, "no reasoning to cut"),
        ({"prompt": "x", "completion": "y", "system": 3}, "system is missing or no text"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_control_tasks(write(tmp_path / "t.jsonl", [row]), [5])
    assert "t.jsonl:1" in str(caught.value)


def test_limits_need_two_tasks_and_a_mean_needs_one() -> None:
    row = {"task_id": "a", "task_type": "control", "checkpoint": "checkpoint-1", "prefill_level": 0}
    rows = pd.DataFrame(
        [row | {"log_loss": 2.0}, row | {"prefill_level": 5, "log_loss": None, "error": "scoring: NaN"}]
    )
    one, none = summarise(rows).itertuples()
    assert (one.n, one.log_loss, none.n, none.n_failed) == (1, 2.0, 0, 1)
    assert one.lower95 != one.lower95
    assert none.log_loss != none.log_loss
    assert loss_in_words(one) == "2.0000 nats a token, 1 task (no interval: it needs two)"
    assert loss_in_words(none) == "no loss: scoring failed for all 1 tasks"
