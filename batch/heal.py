"""`python -m foreshock.batch.heal RUN_DIR --pack P`: what the job after the arrays does.

If work of the pack is missing and rounds are left, it writes the scripts of the next round and leaves with 76: the
host side of the job submits them, because sbatch does not exist inside an image. The same when all that is planned is
there and more follows from it: exploit code after the run's own honest reasoning, or an adaptive round. Otherwise it
aggregates, analyses, reports what is missing, and leaves with 0 if nothing is.

Only this pack's own specs are submitted again, and none that a later submission has taken over: its last job looks
after its own. The launcher's lock is held while a round is made, and until the host side has submitted it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foreshock.batch.config_file import load_config
from foreshock.batch.executors.budget import BudgetError, require_budget
from foreshock.batch.executors.slurm_scripts import journaled_site, make_scripts, next_folder, next_submission
from foreshock.batch.executors.slurm_work import submitted_specs, taken_over
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.running.execute import missing_specs
from foreshock.batch.running.following import FOLLOWING, is_followed, next_specs
from foreshock.batch.running.provenance import recorded_status
from foreshock.batch.running.run import RunHooks, finish
from foreshock.batch.site import Site, resolve_site
from foreshock.batch.status.watched import is_watched
from foreshock.counted import counted
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, write_pack
from foreshock.jobs.records.spec import ArrayTask, JobSpec
from foreshock.jobs.worker import EXIT_STOPPED
from foreshock.slurm.call import SlurmError
from foreshock.slurm.commands import SiteLimits, site_limits
from foreshock.slurm.journal import Journal, Submission
from foreshock.slurm.lock import LauncherLock, LockHeldError
from foreshock.slurm.nodes import nodes_to_exclude
from foreshock.slurm.profile import stored_profile
from foreshock.slurm.submit import emit

EXIT_INCOMPLETE = 1
EXIT_HEAL = 76
_LOCK_WAIT_S = 300.0  # a person's `resume` holds the lock for seconds


def prepare_next_round(layout: RunLayout, plan: PlanFile, submission: Submission) -> bool:
    """Write the scripts that redo what `submission` left undone; False if there is nothing, or no point.

    There is no point when no round is left, or when the last round added not one whole shard.
    """
    missing = own_missing(layout, plan, submission)
    rows = sum(spec.n_rows for spec in missing)
    if not missing or submission.rounds_left < 1:
        return False
    if (next_folder(layout, submission) / "submit.sh").exists():
        return True  # an earlier attempt of this job was killed while it submitted; submit.sh goes on from there
    if submission.settings.get("healing") and rows >= submission.settings["rows_missing"]:
        _say("the last round added nothing; not submitting the same again")
        return False
    site = _site(layout, submission)
    tasks = pack_tasks(missing, site, layout, plan)
    if not _within_budget(layout, site, tasks):
        return False
    bad = nodes_to_exclude(layout.root)
    entry = next_submission(submission, write_pack(layout, tasks), tasks, _limits(submission), rows, bad)
    emit(Journal(layout.root), entry, make_scripts(layout, plan, entry), next_folder(layout, submission))
    if bad:
        _say(f"keeping away from {', '.join(bad)}: elements failed there at once")
    _say(
        f"missing: {counted(len(missing), 'shard')} ({counted(rows, 'row')}); "
        f"{counted(entry.rounds_left, 'more round')} after the next one"
    )
    return True


def own_missing(layout: RunLayout, plan: PlanFile, submission: Submission) -> list[JobSpec]:
    """Specs of a submission without a whole shard that no later submission has."""
    specs = submitted_specs(layout, plan, submission)
    taken = taken_over(layout, plan, Journal(layout.root), submission)
    return [spec for spec in missing_specs(layout, plan, specs) if spec.key() not in taken]


def prepare_what_follows(layout: RunLayout, plan: PlanFile, submission: Submission) -> bool:
    """Write the scripts of what follows from the rows that are there; False if nothing does, or planned work is
    missing. What follows in a watched run, its watch adds."""
    config = load_config(layout.config)
    if not is_followed(config) or is_watched(layout):
        return False
    if (next_folder(layout, submission) / "submit.sh").exists():
        return True  # as in `prepare_next_round`
    missing = missing_specs(layout, plan)
    if not missing:
        more = next_specs(layout, plan, config)
        plan = plan if more is None else more[1]
        missing = missing_specs(layout, plan)
    entries = Journal(layout.root).load_all()
    submitted = {spec.key() for entry in entries for spec in submitted_specs(layout, plan, entry)}
    # A job killed between planning these and submitting it left specs that no submission has.
    fresh = [spec for spec in missing if spec.kind in FOLLOWING and spec.key() not in submitted]
    if not fresh or len(fresh) < len(missing):
        return False
    site = _site(layout, submission)
    tasks = pack_tasks(fresh, site, layout, plan)
    if not _within_budget(layout, site, tasks):
        return False
    rows = sum(spec.n_rows for spec in fresh)
    bad = nodes_to_exclude(layout.root)
    entry = next_submission(submission, write_pack(layout, tasks), tasks, _limits(submission), rows, bad)
    entry = replace(entry, rounds_left=config.execution.heal, settings=entry.settings | {"healing": False})
    emit(Journal(layout.root), entry, make_scripts(layout, plan, entry), next_folder(layout, submission))
    _say(f"more follows: {counted(len(fresh), 'shard')} ({counted(rows, 'row')})")
    return True


def analyse_what_there_is(layout: RunLayout, plan: PlanFile, submission: Submission) -> int:
    """Aggregate, analyse, and say what is missing; returns the exit code."""
    with recorded_status(layout) as status:
        missing = missing_specs(layout, plan)
        aggregated, _ = finish(layout, load_config(layout.config), RunHooks(say=_say), len(missing))
        status["rows"] = aggregated.to_json()
        if not missing:
            return 0
        others = len(missing) - len(own_missing(layout, plan, submission))
        if others == len(missing):
            status["status"] = "submitted"
            _say(f"{others} shards are missing, all of later submissions; the last of their jobs analyses the whole")
            return 0
        status["status"] = "incomplete"
        status["n_missing_shards"] = len(missing)
        status["exit_reason"] = f"missing: {counted(len(missing), 'shard')}"
    _say(f"missing: {describe(missing)}")
    _say(f"-> fix the cause (foreshock status {layout.root} quotes it), then: foreshock resume {layout.root}")
    return EXIT_INCOMPLETE


def describe(missing: list[JobSpec], most: int = 12) -> str:
    """Cells and their numbers of missing shards."""
    cells = Counter(
        f"{spec.kind.value} {spec.checkpoint.name} at {'+'.join(map(str, spec.levels))} words" for spec in missing
    )
    shown = [f"{cell} ({counted(n, 'shard')})" for cell, n in list(cells.items())[:most]]
    return ", ".join(shown) + (f", and {len(cells) - most} more cells" if len(cells) > most else "")


def main(argv: list[str] | None = None) -> int:
    """Parse arguments; see the module."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.batch.heal", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--pack", type=int, required=True, help="the pack whose jobs have ended")
    parser.add_argument("--heal", type=int, help="rounds left, instead of what was journaled")
    arguments = parser.parse_args(argv)
    layout = RunLayout(arguments.run_dir)
    try:
        plan = PlanFile.read(layout)
        journal = Journal(layout.root)
        submission = next((s for s in journal.load_all() if s.pack == arguments.pack), None)
        if submission is None:
            raise InputError(f"no submission of pack {arguments.pack}", path=journal.root)
        lock = LauncherLock(journal.root / "launcher")
        lock.acquire(_LOCK_WAIT_S)
        if arguments.heal != 0 and prepare_next_round(layout, plan, submission):
            return EXIT_HEAL  # the lock stays with the job until its host side has submitted the round
        if prepare_what_follows(layout, plan, submission):
            return EXIT_HEAL
        lock.release()
        return analyse_what_there_is(layout, plan, submission)
    except LockHeldError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_STOPPED  # the host side lets the job try again later
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _site(layout: RunLayout, submission: Submission) -> Site:
    """The run's site with the profiles that it was submitted with: their files may be out of reach here."""
    return resolve_site(load_config(layout.config), journaled_site(submission))


def _limits(submission: Submission) -> SiteLimits:
    """The site's limits, with room for one element and a last job: where there is none now, the host side waits for it.

    Inside an image the host side's answers count; where there are none, the profile's limits or Slurm's defaults.
    """
    profile = stored_profile(submission.settings["profile"])
    try:
        limits = site_limits(profile)
    except SlurmError:
        limits = SiteLimits(profile.max_array_size or 1001, profile.max_submit)
    return limits if limits.max_submit is None else replace(limits, max_submit=max(2, limits.max_submit))


def _within_budget(layout: RunLayout, site: Site, tasks: Sequence[ArrayTask]) -> bool:
    try:
        require_budget(layout, site, tasks)
    except BudgetError as error:
        _say(str(error))
        return False
    return True


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
