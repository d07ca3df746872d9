"""Which work of a run Slurm has: what its submissions hold, what still waits or runs, and what to tell of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack
from foreshock.jobs.records.spec import JobSpec
from foreshock.slurm.journal import Journal, JournaledJob, Stage, Submission
from foreshock.slurm.reasons import explain
from foreshock.slurm.states import JobRecord, JobState

AFTER = "after"
"""Key of a submission's settings: token of the submission whose last job made it."""


def submitted_specs(layout: RunLayout, plan: PlanFile, submission: Submission) -> list[JobSpec]:
    """Specs of a submission's arrays, of those left out that were refused or never reached Slurm."""
    kept = {task for job in _kept(submission) for element in job.elements for task in element}
    if not kept and not submission.arrays:
        return []
    return [spec for task in read_pack(layout, submission.pack, plan) if task.index in kept for spec in task.specs]


def waiting_keys(
    layout: RunLayout, plan: PlanFile, submissions: Sequence[Submission], records: Iterable[JobRecord]
) -> frozenset[str]:
    """Keys of specs that `submissions` are still going to do.

    While a submission's last job is there, that is all of its specs: the last job submits what is missing again.
    """
    alive = {(record.name, record.element) for record in records}
    names = {name for name, _ in alive}
    tokens = {s.token for s in submissions if s.final is not None and s.final.name in names}
    keys: set[str] = set()
    for submission in submissions:
        if submission.token in tokens or submission.settings.get(AFTER) in tokens:
            keys.update(spec.key() for spec in submitted_specs(layout, plan, submission))
            continue
        tasks = {
            task
            for job in _kept(submission)
            for number, element in enumerate(job.elements)
            if (job.name, number) in alive
            for task in element
        }
        if tasks:
            pack = read_pack(layout, submission.pack, plan)
            keys.update(spec.key() for task in pack if task.index in tasks for spec in task.specs)
    return frozenset(keys)


def taken_over(layout: RunLayout, plan: PlanFile, journal: Journal, submission: Submission) -> frozenset[str]:
    """Keys of specs that a later submission has, unless it is this one's next round: its own last job sees to them."""
    later = [
        other
        for other in journal.load_all()
        if other.pack > submission.pack
        and other.settings.get(AFTER) != submission.token
        and not journal.cancel_marker(other.token).exists()
    ]
    return frozenset(spec.key() for s in later for spec in submitted_specs(layout, plan, s))


def waiting_notes(records: Iterable[JobRecord]) -> list[str]:
    """One line for each reason why jobs of the run wait: how many, what it means, what to do."""
    reasons: Counter[str] = Counter()
    example: dict[str, JobRecord] = {}
    for record in records:
        if record.state is JobState.PENDING or record.said == "SUSPENDED":
            reason = "Suspended" if record.said == "SUSPENDED" else record.reason or "None"
            reasons[reason] += 1
            example.setdefault(reason, record)
    lines = []
    for reason, count in reasons.most_common():
        meaning = explain(reason)
        if meaning is not None:
            last = example[reason].name.endswith("-end") and count == 1
            who = f"the last job ({example[reason].job_id}) is" if last else "1 job is" if count == 1 else ""
            lines.append(f"{who or f'{count} jobs are'} {meaning.format(job=example[reason].job_id)} [{reason}]")
    return lines


def _kept(submission: Submission) -> list[JournaledJob]:
    return [job for job in submission.arrays if job.stage is not Stage.DROPPED]
