"""Local workers use the GPUs that their caller may use, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.executors.local import LocalExecutor
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.spec import ArrayTask


class Noted:
    """Processes that are never started: what their environment would have been."""

    def __init__(self) -> None:
        self.devices: list[str | None] = []

    def start(self, task: int, pack: int, log: Path, environment: Mapping[str, str]) -> None:
        self.devices.append(environment.get("CUDA_VISIBLE_DEVICES"))

    def ended(self) -> dict[int, int]:
        return {}

    def terminate(self) -> dict[int, int]:
        return {}

    def pids(self) -> dict[int, int]:
        return {}

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("visible", "gpus", "per_worker", "expected"),
    [
        (None, 2, 1, ["0", "1"]),
        ("3,5", 2, 1, ["3", "5"]),
        ("GPU-8932f937, GPU-1c2d3e4f", 2, 1, ["GPU-8932f937", "GPU-1c2d3e4f"]),
        ("MIG-c6d4f1ef-42e4,MIG-cba663e8-9bed", 2, 1, ["MIG-c6d4f1ef-42e4", "MIG-cba663e8-9bed"]),
        ("7,6,5,4", 4, 2, ["7,6", "5,4"]),
        ("1,-1,2", 1, 1, ["1"]),
        ("", 0, 1, [None]),
    ],
)
def test_workers_get_the_callers_devices(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    visible: str | None,
    gpus: int,
    per_worker: int,
    expected: list[str | None],
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = LocalExecutor(len(expected), gpus, gpus_per_worker=per_worker)
    noted: Any = Noted()
    monkeypatch.setattr(executor, "_make_processes", lambda _: noted)
    executor.submit(RunLayout(tmp_path), 0, [ArrayTask(i, (), 1.0) for i in range(len(expected))])
    assert noted.devices == expected
