"""As many submissions at a time as the memory is enough for."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.jobs.verify.sandbox.limits import Limits
from foreshock.jobs.verify.sandbox.memory import available_bytes, fitting

GB = 1 << 30
LIMITS = Limits(memory_bytes=GB, temporary_bytes=0)


@pytest.mark.parametrize(("available", "fit"), [(100 * GB, 8), (8 * GB, 5), (GB, 1), (0, 1), (-GB, 1), (None, 8)])
def test_the_sum_of_the_limits_fits_into_most_of_the_memory(available: int | None, fit: int) -> None:
    assert fitting(8, LIMITS, available) == fit


def machine(folder: Path, membership: str, groups: dict[str, tuple[str, int, int]]) -> int | None:
    proc = folder / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 999 kB\nMemAvailable: {20 * GB >> 10} kB\n")
    (proc / "self" / "cgroup").write_text(membership)
    for path, (limit, use, cache) in groups.items():
        group = folder / "groups" / path
        group.mkdir(parents=True, exist_ok=True)
        v1 = path.startswith("memory")
        (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(limit)
        (group / ("memory.usage_in_bytes" if v1 else "memory.current")).write_text(str(use))
        (group / "memory.stat").write_text(f"{'total_' * v1}inactive_file {cache}\n")
    return available_bytes(proc, folder / "groups")


def test_the_tightest_control_group_above_counts_with_its_cache_as_free(tmp_path: Path) -> None:
    groups = {"job": (str(8 * GB), 3 * GB, GB), "job/step": ("max", 3 * GB, GB)}
    assert machine(tmp_path / "v2", "0::/job/step\n", groups) == 6 * GB
    v1 = {"memory/slurm": (str(4 * GB), GB, 0), "memory/slurm/uid": (str(1 << 63), GB, 0)}
    assert machine(tmp_path / "v1", "9:cpu,cpuacct:/x\n4:memory:/slurm/uid\n", v1) == 3 * GB
    assert machine(tmp_path / "none", "", {}) == 20 * GB


def test_this_machine_says_something() -> None:
    found = available_bytes()
    assert found is not None
    assert found > 0
