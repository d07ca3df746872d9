"""Processes that write tables side by side leave with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings

SCRIPT = """
import os, sys, time
from pathlib import Path
from foreshock.analysis.aggregate.write import process_pool
from foreshock.jobs.records.layout import RunLayout

if __name__ == "__main__":
    pool = process_pool(RunLayout(Path(sys.argv[1])), {}, 1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    settings = WorkerSettings("fake", {}, "fake", {}, "plain", None, "bare", "shared", False, None, None)
    PlanFile((), settings).write(layout)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(layout.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        os.kill(parent.pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
