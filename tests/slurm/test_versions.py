"""What recorded versions of Slurm answered to each question that foreshock asks, as foreshock reads it.

`fixtures/record.sh` made the recordings on testbeds of the packages that their headers name.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from foreshock.slurm import commands
from foreshock.slurm.call import SlurmError, SlurmSilentError, command_error
from foreshock.slurm.commands import SiteLimits, site_limits
from foreshock.slurm.jobscript import render_submit
from foreshock.slurm.profile import parse_profile
from foreshock.slurm.reasons import explain
from foreshock.slurm.states import SACCT_FORMAT, SQUEUE_FORMAT, JobRecord, JobState, parse_sacct, parse_squeue
from foreshock.slurm.submit import is_full_queue, parse_job_id

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.stem.removeprefix("answers-") for path in FIXTURES.glob("answers-*.txt"))
HOSTSIDE = Path(commands.__file__).with_name("hostside.sh")
every_version = pytest.mark.parametrize("version", VERSIONS)


@dataclass(frozen=True)
class Answer:
    """A command, its exit code, and what it wrote."""

    command: str
    code: int
    out: str
    err: str

    @property
    def error(self) -> SlurmError:
        """As foreshock raises it."""
        return command_error(self.command, self.code, self.out, self.err)


def answers(version: str, program: str) -> list[Answer]:
    found = []
    for section in (FIXTURES / f"answers-{version}.txt").read_text().split("# ")[1:]:
        header, *lines = section.splitlines()
        command, code = re.fullmatch(r"(.*) -> (\d+), Slurm [\d.]+ \(.*\)", header).groups()  # type: ignore[union-attr]  # every header is one
        out = [line for line in lines if not line.startswith("! ")]
        err = [line.removeprefix("! ") for line in lines if line.startswith("! ")]
        found.append(Answer(command, int(code), "\n".join(out), "\n".join(err)))
    return [answer for answer in found if answer.command.startswith(program)]


def recorded(name: str, asked: str) -> str:
    """The lines of a recording of today's question."""
    header, _, text = (FIXTURES / name).read_text().partition("\n")
    assert asked in header
    return text


def attempts(records: list[JobRecord], name: str, element: int | None = None) -> list[JobRecord]:
    return [record for record in records if record.name == name and record.element == element]


@every_version
def test_the_queue(version: str) -> None:
    records = parse_squeue(recorded(f"squeue-{version}.txt", f"--noheader --array --format '{SQUEUE_FORMAT}'"))
    ours = [record for record in records if "fs-" in record.name]
    assert {record.state for record in ours} == {JobState.PENDING, JobState.RUNNING}
    assert all(record.element is not None for record in ours if re.search(r"-a[0-2]$", record.name))
    assert {record.reason for record in ours} == {
        "JobArrayTaskLimit", "Dependency", "JobHeldUser", "JobHeldAdmin", "BeginTime", "None",
    }  # fmt: skip
    assert not any("does not know" in (explain(record.reason or "") or "") for record in ours)
    assert "climate" not in {record.name for record in records}, "parts of heterogeneous jobs are not ours"
    assert all(record.node in ("n1", "n2") for record in records if record.state is JobState.RUNNING)


@every_version
def test_the_queue_with_what_ended(version: str) -> None:
    (answer,) = [a for a in answers(version, "squeue") if a.command.endswith("--states all")]
    records = parse_squeue(answer.out)
    sweep = {record.element: record.state for record in records if record.name == "sweep_1-8_fs-4db658f8-a0"}
    assert sweep == dict.fromkeys(range(6), JobState.COMPLETED) | {1: JobState.FAILED}
    assert attempts(records, "slow_fs-4db658f8-a4")[0].state is JobState.TIMEOUT
    assert attempts(records, "low_fs-4db658f8-a3")[0].state is JobState.PENDING
    assert attempts(records, "train|lr=1e-4")[0].state is JobState.COMPLETED


@every_version
def test_accounting(version: str) -> None:
    records = parse_sacct(recorded(f"sacct-{version}.txt", f"--allocations --duplicates --format {SACCT_FORMAT}"))
    (failed,) = attempts(records, "sweep_1-8_fs-4db658f8-a0", 1)
    assert (failed.state, failed.exit_code) == (JobState.FAILED, 3)
    (signalled,) = attempts(records, "again_fs-4db658f8-a2", 1)
    assert (signalled.state, signalled.exit_code) == (JobState.FAILED, 128 + 10)
    assert attempts(records, "slow_fs-4db658f8-a4")[0].state is JobState.TIMEOUT
    assert attempts(records, "low_fs-4db658f8-a3")[0].state is JobState.PREEMPTED
    requeued, again = attempts(records, "again_fs-4db658f8-a2", 0)
    assert (requeued.said, again.state) == ("REQUEUED", JobState.CANCELLED)
    assert all(0 <= record.waited_s < 60 and record.elapsed_s < 120 for record in records)
    assert attempts(records, "train|lr=1e-4")[0].elapsed_s >= 8


@every_version
def test_jobs_are_found_by_name(version: str) -> None:
    """As submit.sh looks for them."""
    queue = [set(a.out.split()) for a in answers(version, "squeue") if a.command.endswith("--format %F")]
    past = [a.out.split() for a in answers(version, "sacct ") if a.command.endswith("--format JobID")]
    (job,), none = queue
    assert {f"{job}_0", f"{job}_1"} <= set(past[0]) <= {f"{job}_{element}" for element in range(6)}, "no other job"
    assert none == set(past[1]) == set()


@every_version
def test_the_states_that_decide_about_a_requeue(version: str) -> None:
    """The same sed as on the node."""
    expression = re.search(r"show job \"\$fs_id\" 2>/dev/null \| sed -n '([^']+)'", HOSTSIDE.read_text())
    assert expression is not None
    lines = "\n".join(answer.out for answer in answers(version, "scontrol -o show job"))
    argv = ["sed", "-n", expression[1]]
    told = subprocess.run(argv, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told.pop(4) in ("COMPLETING None", "CANCELLED None")
    assert told == [
        "RUNNING None", "COMPLETED None", "PENDING BeginTime", "PENDING JobHeldUser",
        "RUNNING None",  # preempted, in its grace time
        "PENDING BeginTime", "TIMEOUT TimeLimit",
    ]  # fmt: skip


def answering(version: str, which: int) -> Callable[[Sequence[str]], str]:
    """A `run_command` that answers from the recording, with the first (0) or last (-1) answer to a question."""

    def run_command(argv: Sequence[str]) -> str:
        if argv[0] == "squeue":
            return recorded(f"squeue-{version}.txt", "")
        asked = re.sub(r"user=\S+", "user=USER", " ".join(argv))
        return [answer for answer in answers(version, asked) if answer.code == 0][which].out

    return run_command


@every_version
def test_what_a_site_allows(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """First a QOS that allows 1000 jobs, then an association that allows 5 under a QOS without a limit."""
    monkeypatch.setattr(commands.shutil, "which", lambda program: f"/usr/bin/{program}")
    queued = len(recorded(f"squeue-{version}.txt", "").splitlines())
    for which, limit in ((0, 1000 - queued), (-1, 0)):
        monkeypatch.setattr(commands, "run_command", answering(version, which))
        assert site_limits(parse_profile({"time": 10})) == SiteLimits(101, limit)
    monkeypatch.setattr(commands, "count_queued", lambda: 2)
    assert site_limits(parse_profile({"time": 10})) == SiteLimits(101, 3)


@every_version
def test_what_sbatch_says(version: str) -> None:
    submitted = [a for a in answers(version, "sbatch") if a.code == 0 and "--test-only" not in a.command]
    assert len(submitted) == 2
    assert all(parse_job_id(answer.out) for answer in submitted)
    refused = [a for a in answers(version, "sbatch") if a.code != 0]
    silent = {a.command for a in refused if isinstance(a.error, SlurmSilentError)}
    full = {a.command for a in refused if is_full_queue(str(a.error))}
    assert silent == {"sbatch --wrap true"}, "the controller was down"
    assert full == {"sbatch --hold --wrap true", "sbatch --hold --array=0-20 --wrap true"}
    assert {a.command for a in refused} - silent - full == {
        f"sbatch {what} --wrap true"
        for what in (
            "--account=nobody", "--partition=nowhere", "--qos=nothing", "--constraint=h100", "--array=0-5000",
            "--hold --time=20", "--hold --cpus-per-task=3",  # more than the QOS lets one job have
        )
    }  # fmt: skip
    passes = re.search(r"^may_pass\(\) \{.*?^\}\n", render_submit([], "end"), re.MULTILINE | re.DOTALL)
    assert passes is not None
    script = passes[0] + 'for said in "$@"; do may_pass "$said" && echo yes || echo no; done'
    argv = ["bash", "-c", script, "bash", *(a.err for a in refused)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert told == ["yes" if a.command in silent | full else "no" for a in refused], "submit.sh judges alike"


@every_version
def test_silence_is_told_from_refusal(version: str) -> None:
    down = [a for program in ("squeue", "sacct", "scancel", "scontrol show config") for a in answers(version, program)]
    assert sum(isinstance(a.error, SlurmSilentError) for a in down if a.code != 0) == 5
    assert all(isinstance(a.error, SlurmSilentError) for a in down if a.code != 0)
    assert len([a for a in answers(version, "scancel") if a.code == 0]) == 5, "nothing to cancel is no failure"
    refused = [a for a in answers(version, "scontrol requeue") if a.code != 0]
    assert len(refused) == 2
    assert not any(isinstance(a.error, SlurmSilentError) for a in refused)
