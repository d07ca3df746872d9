"""A watch and adaptive rounds on a real cluster, as an ordinary user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.cluster


def events(text: str, kind: str) -> list[dict[str, Any]]:
    return [event for line in text.splitlines() if (event := json.loads(line))["event"] == kind]


def test_a_watch_submits_each_checkpoint_once_and_alarms_from_its_results(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType
) -> None:
    run = sweep_tools.make(bed, sweep, inputs, "watched", prefill={"levels": [0, 10]})
    live = run.folder / "live"
    live.mkdir()
    live.chmod(0o755)

    def save(step: int) -> None:
        shutil.copytree(inputs / "sft" / "checkpoints" / f"checkpoint-{step}", live / f"checkpoint-{step}")

    def watch(*more: str) -> Any:
        options = ("--config", str(run.config), "--once", "--json", "--settle-seconds", "0", *more)
        return run.foreshock("watch", str(live), *options, check=False)

    save(1)
    first = watch()
    assert first.returncode == 0, first.stderr
    assert len(events(first.stdout, "queued")) == 1
    again = watch()
    assert events(again.stdout, "planned") == []
    assert len(list((run.dir / "packs").iterdir())) == 1
    bed.wait_idle(600)
    save(2)
    second = watch("--alarm-probability", "0")
    assert second.returncode == 3, second.stderr
    # Once, and not before its job had ended: which of the two looks saw that is the cluster's affair.
    evaluated = [*events(again.stdout, "evaluated"), *events(second.stdout, "evaluated")]
    assert [event["checkpoint"] for event in evaluated] == ["checkpoint-1"]
    assert len(events(second.stdout, "alarm")) == 2
    bed.wait_idle(600)
    last = watch("--alarm-probability", "0")
    assert last.returncode == 0, last.stderr
    assert [event["checkpoint"] for event in events(last.stdout, "evaluated")] == ["checkpoint-2"]
    assert len(list((run.dir / "packs").iterdir())) == 2
    status = run.status()
    assert status["rows_done"] == status["rows_total"]
    assert (run.dir / "report.html").is_file()


def test_adaptive_rounds_follow_the_sweep_unattended(
    bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType
) -> None:
    run = sweep_tools.make(
        bed,
        sweep,
        inputs,
        "adaptive",
        prefill={"levels": [0, 10]},
        adaptive={"enabled": True, "budget_samples": 40, "rounds": 2},
    )
    run.foreshock("run", str(run.config))
    bed.wait_idle(900)
    assert run.document()["status"] == "completed"
    rounds = [json.loads(path.read_text()) for path in sorted((run.dir / "adaptive").glob("round-*.json"))]
    assert len(rounds) == 2
    assert run.document()["rows"]["n_extra"] == sum(made["spent"] for made in rounds) > 0
    assert len(list((run.dir / "packs").iterdir())) == 3
