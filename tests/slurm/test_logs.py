"""Reading job logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.slurm.logs import cause, failure_text, read_attempts

LOG = """\
something before
[foreshock 2026-11-21 22:53:25] === job 6_0 attempt 0 on n1 ===
[foreshock 2026-11-21 22:53:25] task 0
first attempt's words
[foreshock 2026-11-21 22:53:26] exit code 137 after 4 new rows; requeueing 6_0
slurmstepd-n1: error: *** JOB 8 ON n1 CANCELLED AT 2026-11-21T22:53:27 DUE TO JOB REQUEUE ***
[foreshock 2026-11-21 22:53:31] === job 6_0 attempt 1 on n2 ===
[foreshock 2026-11-21 22:53:31] task 0

Traceback (most recent call last):
RuntimeError: no space
[foreshock 2026-11-21 22:53:34] task 0 ended with exit code 1
"""


def test_attempts_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOG)
    first, second = read_attempts(path)
    assert (first.number, first.node, first.started) == (0, "n1", "2026-11-21 22:53:25")
    assert "first attempt's words" in first.lines
    assert (second.number, second.node) == (1, "n2")


def test_the_failure_is_the_last_attempts_own_words(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOG)
    assert failure_text(path) == "Traceback (most recent call last):\nRuntimeError: no space"


def test_without_words_of_the_program_the_host_side_speaks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(LOG.splitlines(keepends=True)[1:3] + LOG.splitlines(keepends=True)[4:6]))
    assert failure_text(path) is not None
    assert "requeueing 6_0" in str(failure_text(path))
    assert "slurmstepd" not in str(failure_text(path))


def test_no_log_is_no_text(tmp_path: Path) -> None:
    assert failure_text(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", "the GPU reported a fault"),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "the GPU's memory failed"),
        ("node7:12:34 [0] NCCL WARN Call to connect returned Connection refused", "NCCL failed"),
        ("torch.distributed.DistBackendError: ncclSystemError: System call failed", "NCCL failed"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.", "the node ran out of memory"),
        ("OSError: [Errno 28] No space left on device: '/scratch/x'", "a disk is full"),
        ("RuntimeError: No CUDA GPUs are available", "the job saw no GPU"),
    ],
)
def test_a_fault_of_the_node_is_named_however_far_above_the_end_it_stands(
    tmp_path: Path, line: str, meaning: str
) -> None:
    path = tmp_path / "log"
    head = "[foreshock 2026-01-01 00:00:00] === job 7_3 attempt 0 on n1 ==="
    path.write_text("\n".join([head, line, *(f"frame {i}" for i in range(40)), "RuntimeError: engine died"]))
    text = failure_text(path) or ""
    assert text.startswith(f"{meaning}: {line}")
    assert text.endswith("RuntimeError: engine died")


def test_an_ordinary_failure_names_no_node() -> None:
    assert cause(["ValueError: bad input", "task 3 ended with exit code 1"]) is None
