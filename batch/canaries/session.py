"""Submitting the canaries, waiting for what they tell, and taking everything away again, whatever happens."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from foreshock.batch.canaries.findings import Evidence, Told
from foreshock.batch.canaries.on_node import examine_file_system
from foreshock.batch.canaries.scripts import Canary, canaries, whole_job, write_files
from foreshock.slurm.call import SlurmError, SlurmSilentError, run_command, slurm_environment
from foreshock.slurm.commands import queued_jobs
from foreshock.slurm.profile import Profile
from foreshock.slurm.sbatch import ScriptExecutor
from foreshock.slurm.states import JobState

_LOOK_S = 0.5
_ASK_S = 3.0
_GONE_S = 30.0
_FOLDER = ".foreshock-doctor-"


def show_scripts(profile: Profile, final: Profile, shared: Path) -> list[tuple[str, str]]:
    """Names and texts of the scripts that would be submitted."""
    folder = shared.absolute() / f"{_FOLDER}EXAMPLE"
    return [(canary.path.name, canary.script()) for canary in canaries(profile, final, folder, "EXAMPLE")]


def examine_site(profile: Profile, final: Profile, shared: Path, wait_s: float, say: Callable[[str], None]) -> Evidence:
    """Submit, wait at most `wait_s` seconds, cancel, remove. Raises SlurmError without Slurm, OSError for `shared`."""
    _sweep(shared)
    token = secrets.token_hex(4)
    folder = shared.absolute() / f"{_FOLDER}{token}"
    folder.mkdir()
    jobs = canaries(profile, final, folder, token)
    with _left_clean(folder, [job.name for job in jobs]):
        (folder / "owner").write_text(f"{socket.gethostname()} {os.getpid()}")
        write_files(folder, final)
        configuration = _pairs(run_command(["scontrol", "show", "config"]))
        whole = {role: _test_only(folder, role, p) for role, p in (("node", profile), ("final", final))}
        told = {job.role: _submit(job) for job in jobs}
        accepted = sum(one.refused is None for one in told.values())
        say(f"submitted {accepted} small jobs; waiting for them, at most {wait_s:.0f} s")
        _wait(jobs, told, wait_s, say)
        accounts = _words(
            ["sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={_user()}", "format=Account"]
        )
        return Evidence(
            profile, final, told, whole, configuration, _partition(profile), accounts,
            _words(["sinfo", "--noheader", "--format", "%R"]), examine_file_system(folder), str(folder),
        )  # fmt: skip


@contextmanager
def _left_clean(folder: Path, names: list[str]) -> Iterator[None]:
    """Jobs are cancelled and the folder removed on every way out, an interruption among them."""
    try:
        yield
    finally:
        every = [*names, *(f"{name}-nested" for name in names)]
        end = time.monotonic() + _GONE_S
        while time.monotonic() < end:
            try:
                for name in every:
                    run_command(["scancel", "--user", str(os.getuid()), "--name", name])
                if not queued_jobs(every):
                    break
            except SlurmError:
                pass  # asked again; jobs without their folder leave by themselves
            time.sleep(_LOOK_S)
        shutil.rmtree(folder, ignore_errors=True)


def _submit(job: Canary) -> Told:
    job.path.write_text(job.script(), encoding="utf-8")
    try:
        ScriptExecutor(job.folder / "submitit" / job.role, job.path).submit_script()
    except SlurmSilentError:
        raise
    except SlurmError as error:
        return Told(refused=str(error).partition(": ")[2] or str(error))
    return Told(state="waiting")


def _wait(jobs: tuple[Canary, ...], told: dict[str, Told], wait_s: float, say: Callable[[str], None]) -> None:
    """Read what they leave until all have ended or been requeued, or time is up."""
    end, asked = time.monotonic() + wait_s, 0.0
    open_jobs = [job for job in jobs if told[job.role].refused is None]
    while open_jobs and time.monotonic() < end:
        for job in open_jobs:
            _answer(job.folder)
            before = told[job.role].started
            _read(job, told[job.role])
            if told[job.role].started and not before:
                say(f"{job.role}: runs on {told[job.role].facts.get('node', '?')}")
        if time.monotonic() - asked > _ASK_S:
            asked = time.monotonic()
            _ask(open_jobs, told)
        done = [job for job in open_jobs if told[job.role].state in ("ended", "requeued")]
        open_jobs = [job for job in open_jobs if job not in done]
        for job in done:
            say(f"{job.role}: {told[job.role].state}")
        time.sleep(_LOOK_S)
    for job in jobs:
        _read(job, told[job.role])


def _ask(jobs: list[Canary], told: dict[str, Told]) -> None:
    records = {record.name: record for record in queued_jobs([job.name for job in jobs], ended=True)}
    for job in jobs:
        record, one = records.get(job.name), told[job.role]
        if record is None or record.state.is_final:
            one.state = "ended"
        elif record.state is JobState.PENDING:
            one.state, one.reason = ("requeued" if "asks-requeue" in one.facts else "waiting"), record.reason
        elif record.state is JobState.RUNNING:
            one.state = "running"
    for job in jobs:  # once more, since an ended job has written all by now
        _read(job, told[job.role])


def _read(job: Canary, told: Told) -> None:
    for line in _text(job.folder / f"{job.role}.facts").splitlines():
        name, tab, value = line.partition("\t")
        if not tab:
            continue
        if name == "notice" and float(value) not in told.notices:
            told.notices.append(float(value))
        told.facts[name] = value
    told.said, told.log = _text(job.folder / f"{job.role}.said"), _text(job.folder / f"{job.role}.log")
    alive = _text(job.folder / f"{job.role}.alive").strip()
    told.alive = float(alive) if re.fullmatch(r"[\d.]+", alive) else told.alive
    with suppress(ValueError):  # not there yet
        told.probe = json.loads(_text(job.folder / f"{job.role}.json"))


def _answer(folder: Path) -> None:
    for name in os.listdir(folder):  # noqa: PTH208 - names alone
        if name.startswith("call-"):
            (folder / name.replace("call", "answer")).touch()


def _test_only(folder: Path, role: str, profile: Profile) -> str | None:
    """What sbatch says against all that a profile asks for, without submitting it; None if nothing."""
    path = folder / f"whole-{role}.sbatch"
    path.write_text(whole_job(profile, "foreshock-doctor"), encoding="utf-8")
    done = subprocess.run(
        ["sbatch", "--test-only", str(path)],
        capture_output=True, text=True, errors="replace", timeout=60, check=False, env=slurm_environment(),
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "failure" in line.lower()] or lines[-1:]
    return None if done.returncode == 0 else "; ".join(errors) or f"exit code {done.returncode}"


def _partition(profile: Profile) -> dict[str, str]:
    try:
        name = profile.partition or next(
            word.rstrip("*") for word in run_command(["sinfo", "--noheader", "--format", "%P"]).split() if "*" in word
        )
        return _pairs(run_command(["scontrol", "--oneliner", "show", "partition", name]).replace(" ", "\n"))
    except (SlurmError, StopIteration):
        return {}


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found


def _words(argv: list[str]) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(run_command(argv).split()))
    except SlurmError:
        return ()


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _sweep(shared: Path) -> None:
    """Remove folders of doctors of this machine that were killed."""
    for folder in shared.glob(f"{_FOLDER}*"):
        host, _, pid = _text(folder / "owner").partition(" ")
        if host == socket.gethostname() and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
