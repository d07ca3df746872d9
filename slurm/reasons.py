"""Why a job waits: Slurm's reasons in words, with what to do about those that do not pass by themselves."""

from __future__ import annotations

import re

_MEANINGS = {
    "Suspended": "suspended: the time limit does not count; Slurm, or whoever did it, resumes",
    "JobHeldUser": "held by its owner: `scontrol release {job}` lets it run",
    "JobHeldAdmin": "held by an administrator: only they can release it; ask them about job {job}",
    "JobHoldMaxRequeue": "held after too many requeues: `scontrol release {job}`, or cancel and resume",
    "BeginTime": "requeued: Slurm lets a requeued job wait about two minutes",
    "Dependency": "waiting for the jobs before it to end",
    "DependencyNeverSatisfied": "waiting for what can never happen: foreshock cancel, then resume",
    "Priority": "waiting behind jobs of higher priority",
    "Resources": "waiting for free nodes",
    "BadConstraints": "asking for what no node has: correct the profile, then foreshock cancel and resume",
    "PartitionTimeLimit": "asking for more time than the partition allows: lower `time`, then cancel and resume",
    "PartitionNodeLimit": "asking for more than the partition has: correct the profile, then cancel and resume",
    "PartitionDown": "waiting for the partition, which is down",
    "PartitionInactive": "waiting for the partition, which is inactive",
    "NodeDown": "waiting for a node that is down",
    "Reservation": "waiting for its reservation",
    "Licenses": "waiting for licences",
    "JobArrayTaskLimit": "waiting for its turn: `array_throttle` lets no more run at once",
    "launch failed requeued held": "held since a node could not start it: `scontrol release {job}` tries again",
    "launch_failed_requeued_held": "held since a node could not start it: `scontrol release {job}` tries again",
    "Cleaning": "requeued, while its last attempt is cleaned up",
    "InvalidAccount": "asking for an account that may not run: correct the profile, then cancel and resume",
    "InvalidQOS": "asking for a QOS that may not run: correct the profile, then cancel and resume",
    "AccountNotAllowed": "asking for a partition that the account may not use: correct the profile, cancel, resume",
    "QOSNotAllowed": "asking for a QOS that the account may not use: correct the profile, then cancel and resume",
}
_KINDS = (
    (r"^(Assoc|QOS|MaxJobs|MaxSubmit|Usage)", "waiting for one of the site's limits on you or your group"),
    (r"^ReqNodeNotAvail", "asking for nodes that are down, drained or reserved"),
    (r"held", "held: `scontrol release {job}`, or ask the administrators"),
)
_NOTHING = frozenset({"", "None", "(null)"})


def explain(reason: str) -> str | None:
    """What the reason of a waiting job means, to be read after "job is"; `{job}` stands for an id.

    None where there is nothing to say; an unknown reason is repeated.
    """
    text = reason.strip("() ")
    if text in _NOTHING:
        return None
    if text in _MEANINGS:
        return _MEANINGS[text]
    for pattern, meaning in _KINDS:
        if re.search(pattern, text):
            return meaning
    return "waiting for a reason that foreshock does not know"
