"""Further processes leave with whoever started them, and with the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foreshock.analysis.processes import process_pool
from foreshock.errors import InputError

SCRIPT = """
import os, signal, time
from foreshock.analysis.processes import process_pool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with process_pool(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def _gone(pid: int) -> bool:
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_ends_the_parent_leaves_no_process(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(sent)
    assert _gone(child)


def test_an_error_ends_the_work_of_the_others() -> None:
    began = time.monotonic()
    pids = []

    def fail() -> None:
        with process_pool(1) as pool:
            pids.append(pool.submit(os.getpid).result())
            pool.submit(time.sleep, 600)
            raise InputError("no usable row")

    with pytest.raises(InputError, match="no usable row"):
        fail()
    assert time.monotonic() - began < 300
    assert _gone(pids[0])


def _refuse(path: Path) -> None:
    raise InputError("no such directory", path=path, fix="look again")


def test_what_is_wrong_with_the_input_is_told_as_here() -> None:
    with process_pool(1) as pool, pytest.raises(InputError, match="run: no such directory\n  -> look again") as caught:
        pool.submit(_refuse, Path("run")).result()
    assert caught.value.path == Path("run")
