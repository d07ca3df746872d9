"""Submission through submitit: a pack's arrays, then one job after all of them.

Submitit writes the batch file and calls sbatch, and no more. Its pickles, its signal handling and its waiting are
left out: a pickle moved into place after sbatch is lost with a launcher that dies in between, its requeue does not
exist inside a container, and whether work is done is asked of the run's store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from foreshock.slurm.commands import SlurmError, ended_jobs, queued_jobs
from foreshock.slurm.jobscript import ArrayScript, FinalScript, render, render_submit, sbatch_flags
from foreshock.slurm.journal import Journal, JournaledJob, Stage, Submission

_SETTLE_S = 2.0  # between two looks for a job whose submission was interrupted


@dataclass(frozen=True, slots=True)
class Scripts:
    """What a submission consists of; arrays in the journal's order."""

    arrays: tuple[ArrayScript, ...]
    final: FinalScript | None


def submit(journal: Journal, submission: Submission, scripts: Scripts) -> Submission:
    """Submit whatever of `submission` is not in Slurm yet and return it as it stands then.

    Every step is in the journal before it is taken, so a call after a kill goes on where the last one stopped.
    Raises SlurmError when sbatch refuses; what was accepted until then stays, and the next call goes on.
    """
    journal.save(submission)
    (journal.root.parent / "logs" / "slurm").mkdir(parents=True, exist_ok=True)
    folder = journal.folder(submission.pack) / "submitit"
    for job, script in zip(submission.arrays, scripts.arrays, strict=True):
        submission = _advance(journal, submission, job, partial(_sbatch_array, folder, script))
    if submission.final is not None and scripts.final is not None:
        ids = [job.job_id for job in submission.arrays if job.job_id is not None]
        submission = _advance(journal, submission, submission.final, partial(_sbatch_final, folder, scripts.final, ids))
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


def find_job(job: JournaledJob, submission: Submission) -> int | None:
    """The id of a job that may have been submitted: by its name in the queue, then in accounting."""
    for attempt in range(2):
        if attempt:
            time.sleep(_SETTLE_S)
        queued = [record.job_id for record in queued_jobs(job.name) if record.name == job.name]
        ended = [] if queued else [record.job_id for record in ended_jobs([job.name], submission.since) or []]
        if queued or ended:
            return (queued or ended)[0]
    return None


def _advance(journal: Journal, submission: Submission, job: JournaledJob, sbatch: Callable[[], int]) -> Submission:
    if job.stage in (Stage.SUBMITTED, Stage.EMITTED):
        return submission
    job_id = find_job(job, submission) if job.stage is Stage.SUBMITTING else None
    if job_id is None:
        journal.save(submission := submission.with_job(replace(job, stage=Stage.SUBMITTING)))
        job_id = sbatch()
    journal.save(submission := submission.with_job(replace(job, stage=Stage.SUBMITTED, job_id=job_id)))
    return submission


def _sbatch_array(folder: Path, script: ArrayScript) -> int:
    executor = _executor(folder, script)
    # submitit's own array path pickles one function an element; ours needs only the header line that it writes
    executor.parameters["map_count"] = len(script.elements)
    executor.parameters["array_parallelism"] = script.profile.array_throttle or len(script.elements)
    return _call(executor, script.name)


def _sbatch_final(folder: Path, script: FinalScript, after: list[int]) -> int:
    executor = _executor(folder, script)
    if after:
        executor.parameters["dependency"] = "afterany:" + ":".join(map(str, after))
    return _call(executor, script.name)


def _executor(folder: Path, script: ArrayScript | FinalScript) -> submitit.SlurmExecutor:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.SlurmExecutor(folder=folder, python="false")
    except RuntimeError as error:
        raise SlurmError(f"{error}\n  -> run on a login node, or use `foreshock plan --emit-sbatch DIR`") from None
    *setup, main = script.body()
    flags = sbatch_flags(script)
    executor.update_parameters(
        job_name=script.name,
        time=script.profile.time,
        wckey=None,
        use_srun=False,
        stderr_to_stdout=True,
        setup=[*setup, f"fs_main() {{ {main}; }}"],
        additional_parameters={name: value for name, value in flags.items() if name not in ("job-name", "time")},
    )
    return executor


def _call(executor: submitit.SlurmExecutor, name: str) -> int:
    try:
        return int(executor._submit_command("fs_main").job_id)
    except FailedJobError as error:
        text = str(error).strip()
        said = next((line for line in reversed(text.splitlines()) if "error:" in line), text)
        hint = ""
        if "SubmitJobLimit" in text or "QOSMaxSubmit" in text:
            hint = "\n  -> the queue is full for you: set max_submit in the profile, or wait and resume"
        raise SlurmError(f"sbatch refused {name}: {said.strip()}{hint}") from None
