"""Submission: a pack's arrays, then one job after all of them.

There is one way to submit: a whole script in the run directory, sbatch through submitit, and a look for the job by its
name. What sbatch prints is read only when Slurm does not know the name yet: sites wrap it, and print what they like.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from foreshock.slurm.call import SlurmError, SlurmSilentError
from foreshock.slurm.commands import ended_jobs, queued_jobs
from foreshock.slurm.jobscript import ArrayScript, FinalScript, render, render_submit
from foreshock.slurm.journal import Journal, JournaledJob, Stage, Submission
from foreshock.slurm.sbatch import ScriptExecutor

_SETTLE_S = 2.0  # between two looks for a job whose submission was interrupted
_NO_ROOM = re.compile(r"SubmitJob|MaxJobCount|maximum number of jobs", re.I)
_ANY_LIMIT = re.compile(
    "job submit limit", re.I
)  # Slurm's sentence about every limit, a job's size and time among them
_NAMED_LIMIT = re.compile(r"\b(QOS|Assoc)(Max|Min|Grp)")


@dataclass(frozen=True, slots=True)
class Scripts:
    """What a submission consists of; arrays in the journal's order."""

    arrays: tuple[ArrayScript, ...]
    final: FinalScript | None


def submit(journal: Journal, submission: Submission, scripts: Scripts) -> Submission:
    """Submit whatever of `submission` is not in Slurm yet and return it as it stands then.

    Every step is in the journal before it is taken, so a call after a kill goes on where the last one stopped.
    Raises SlurmError when sbatch refuses, which drops the job, and SlurmSilentError when nobody knows what became of
    it. What was accepted until then stays.
    """
    journal.save(submission)
    (journal.root.parent / "logs" / "slurm").mkdir(parents=True, exist_ok=True)
    for job, script in zip(submission.arrays, scripts.arrays, strict=True):
        submission = _advance(journal, submission, job, script)
    if submission.final is not None and scripts.final is not None:
        after = [job.job_id for job in submission.arrays if job.job_id is not None]
        submission = _advance(journal, submission, submission.final, scripts.final, after)
    return submission


def emit(journal: Journal, submission: Submission, scripts: Scripts, folder: Path) -> Submission:
    """Write the scripts and `submit.sh` into `folder`, and journal the jobs as handed out."""
    folder.mkdir(parents=True, exist_ok=True)
    (journal.root.parent / "logs" / "slurm").mkdir(parents=True, exist_ok=True)
    every: list[ArrayScript | FinalScript] = [*scripts.arrays, *([scripts.final] if scripts.final else [])]
    for script in every:
        (folder / f"{script.name}.sbatch").write_text(render(script), encoding="utf-8")
    final = scripts.final.name if scripts.final else None
    path = folder / "submit.sh"
    path.write_text(render_submit([script.name for script in scripts.arrays], final), encoding="utf-8")
    path.chmod(0o755)
    for job in submission.jobs:
        submission = submission.with_job(replace(job, stage=Stage.EMITTED))
    journal.save(submission)
    return submission


def settle(journal: Journal, submission: Submission) -> Submission:
    """The submission as Slurm knows it: jobs found by name are SUBMITTED, all others DROPPED, and journaled so.

    Scripts that were handed out stay EMITTED as long as none of them was submitted. Raises SlurmError.
    """
    open_jobs = [job for job in submission.jobs if job.stage not in (Stage.SUBMITTED, Stage.DROPPED)]
    asked = [job for job in open_jobs if job.stage is not Stage.PLANNED]
    found = _find([job.name for job in asked], journal, submission)
    if not found and asked and all(job.stage is Stage.EMITTED for job in submission.jobs):
        return submission
    for job in open_jobs:
        if job.name in found:
            submission = submission.with_job(replace(job, stage=Stage.SUBMITTED, job_id=found[job.name]))
        else:
            submission = drop(journal, submission, job, "not in Slurm when it was looked for")
    if open_jobs:
        journal.save(submission)
    return submission


def drop(journal: Journal, submission: Submission, job: JournaledJob, why: str) -> Submission:
    """The submission without that job: should Slurm have it after all, it leaves as soon as it starts."""
    journal.root.mkdir(parents=True, exist_ok=True)
    journal.dropped_marker(job.name).touch()
    return submission.with_job(replace(job, stage=Stage.DROPPED, why=why))


def find_job(journal: Journal, job: JournaledJob, submission: Submission) -> int | None:
    """The id of a job that may have been submitted; see `_find`. Raises SlurmError."""
    return _find([job.name], journal, submission).get(job.name)


def _find(names: Sequence[str], journal: Journal, submission: Submission) -> dict[str, int]:
    """Ids of jobs by name: in the queue (the controller remembers ended ones for a while), in accounting, in logs.

    Looks twice, in case a submission is just being accepted. Raises SlurmError.
    """
    found: dict[str, int] = {}
    for attempt in range(2 if names else 0):
        if attempt:
            time.sleep(_SETTLE_S)
        records = queued_jobs(names, ended=True)
        missing = set(names) - {record.name for record in records}
        records += ended_jobs(missing, submission.since) or []
        found = {record.name: record.job_id for record in records}
        for name in set(names) - set(found):
            job_id = _id_of_log(journal, name)
            if job_id is not None:
                found[name] = job_id
        if len(found) == len(names):
            break
    return found


def _id_of_log(journal: Journal, name: str) -> int | None:
    """A job that has ever started left a log, named by it and its id."""
    for path in (journal.root.parent / "logs" / "slurm").glob(f"{name}-*.log"):
        match = re.fullmatch(r"(\d+)(?:_\d+)?", path.stem.removeprefix(f"{name}-"))
        if match is not None:
            return int(match[1])
    return None


def _advance(
    journal: Journal,
    submission: Submission,
    job: JournaledJob,
    script: ArrayScript | FinalScript,
    after: Sequence[int] = (),
) -> Submission:
    if job.stage in (Stage.SUBMITTED, Stage.EMITTED, Stage.DROPPED):
        return submission
    job_id = find_job(journal, job, submission) if job.stage is Stage.SUBMITTING else None
    if job_id is None:
        submission, job_id = _sbatch(journal, submission, job, script, after)
    journal.save(submission := submission.with_job(replace(job, stage=Stage.SUBMITTED, job_id=job_id)))
    return submission


def _sbatch(
    journal: Journal,
    submission: Submission,
    job: JournaledJob,
    script: ArrayScript | FinalScript,
    after: Sequence[int],
) -> tuple[Submission, int]:
    folder = journal.folder(submission.pack)
    path = folder / f"{job.name}.sbatch"
    path.write_text(render(script, after), encoding="utf-8")
    submission = submission.with_job(replace(job, stage=Stage.SUBMITTING))
    journal.save(submission)
    said, refusal = "", None
    try:
        said = ScriptExecutor(folder / "submitit" / job.name, path).submit_script()
    except SlurmError as error:
        refusal = error
    try:
        job_id = next((record.job_id for record in queued_jobs([job.name], ended=True)), None)
    except SlurmError:
        job_id = None
    if job_id is None and refusal is None:
        job_id = parse_job_id(said) or find_job(journal, job, submission)
    if job_id is not None:
        return submission, job_id
    if refusal is None or isinstance(refusal, SlurmSilentError):
        told = f"sbatch said {said.strip()!r}" if refusal is None else str(refusal)
        raise SlurmSilentError(
            f"nobody knows whether Slurm has {job.name}: {told}\n"
            f"  -> foreshock resume {journal.root.parent} looks for it by its name and goes on"
        )
    journal.save(submission.with_job(replace(job, stage=Stage.DROPPED, why=str(refusal))))
    raise SlurmError(_refusal(job.name, str(refusal), journal))


def parse_job_id(text: str) -> int | None:
    """The id in what sbatch prints: `Submitted batch job 7 [on cluster x]`, or a line of `7` or `7;x`; else None."""
    for line in reversed(text.splitlines()):
        match = re.search(r"[Ss]ubmitted batch job (\d+)\b", line) or re.fullmatch(r"\s*(\d+)(?:;\S+)?\s*", line)
        if match is not None:
            return int(match[1])
    return None


def is_full_queue(told: str) -> bool:
    """Whether sbatch refuses for the number of jobs that are queued, which passes, and not for what one job asks for.

    Where Slurm names no limit, as in `QOSMaxWallDurationPerJobLimit`, its sentence about all of them counts as full.
    """
    return bool(_NO_ROOM.search(told) or (_ANY_LIMIT.search(told) and not _NAMED_LIMIT.search(told)))


def _refusal(name: str, told: str, journal: Journal) -> str:
    said = told.partition(": ")[2] or told
    hint = f"correct the profile, then: foreshock resume {journal.root.parent} (it plans anew from the profile)"
    if is_full_queue(told):
        hint = (
            "the queue is full for you: set max_submit in the profile, or wait, then: "
            f"foreshock resume {journal.root.parent}"
        )
    return f"sbatch refused {name}: {said}\n  -> {hint}"
