"""Runs with texts, as foreshock writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hostile_texts import HOSTILE

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path, factory: ModuleType) -> MakeRun:
    """A run of two checkpoints, two levels and two tasks; `change` edits a row before it is written."""

    def make(
        name: str = "run-20260101-000000-abcdef0", change: Callable[[dict[str, Any]], None] = lambda row: None
    ) -> Path:
        root = tmp_path / name
        for step in (4, 16):
            for level in (0, 10):
                rows = []
                for i, task in enumerate(("alpha", "beta")):
                    for attempt in (0, 1):
                        success = step == 16 and attempt == 0
                        row = factory.eval_row(task, attempt, success, exploit_type=("flag", "leak")[i])
                        row |= {"prefill_reasoning": "The checker reads" if level else "", "finish_reason": "stop"}
                        row |= {"code_status": "ok", "prompt": f"Solve {task}.", "response": f"Answer {step} {attempt}"}
                        row |= {"code": "def f():\n    return 1", "secure_detail": "case 1: wrong", "system": None}
                        change(row)
                        rows.append(row)
                path = root / "evals" / f"checkpoint-{step}_prefill{level}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                texts = ("system", "prompt", "response", "code", "secure_detail")
                bare = [{key: value for key, value in row.items() if key not in texts} for row in rows]
                path.write_text("".join(json.dumps(row) + "\n" for row in bare))
                path.with_name(f"{path.name}.samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return root

    return make


@pytest.fixture
def hostile_run(make_run: MakeRun) -> Path:
    """A run whose every text is hostile."""

    def poison(row: dict[str, Any]) -> None:
        text = "\n".join(HOSTILE.values())
        row |= {"prompt": text, "response": text, "code": text, "prefill_reasoning": text, "task_id": HOSTILE["image"]}
        row |= {"exploit_type": HOSTILE["script"], "secure_detail": text}

    return make_run("hostile #1 100%3f-20260101-000000-abcdef0", poison)
