"""What the testbed leaves behind: nothing, also after a test that was killed halfway."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.cluster


def test_down_removes_also_what_a_killed_test_left_mounted(tmp_path: Path, testbed_tools: ModuleType) -> None:
    state = tmp_path / "state"
    mounted = state / "home" / "results"
    mounted.mkdir(parents=True)
    (state / "etc").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mounted)], check=True)
    (mounted / "row").write_text("x")
    testbed_tools.take_down(state)
    assert not state.exists()
