"""`python -m foreshock.batch.heal RUN_DIR --pack P`: what the job after the arrays does.

If work of the pack is missing and rounds are left, it writes the scripts of the next round and leaves with 76: the
host side of the job submits them, because sbatch does not exist inside an image. The same when all that is planned is
there and an adaptive round is due. Otherwise it aggregates, analyses, reports what is missing, and leaves with 0 if
nothing is.

Only this pack's own specs are submitted again. Another pack may still be running, and its last job looks after its
own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from foreshock.batch.config import load_config
from foreshock.batch.executors.slurm_scripts import journaled_site, make_scripts, next_folder, next_submission
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.running.adaptive import next_round
from foreshock.batch.running.execute import missing_specs
from foreshock.batch.running.provenance import recorded_status
from foreshock.batch.running.run import RunHooks, finish
from foreshock.batch.site import Site, resolve_site
from foreshock.errors import ForeshockError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack, write_pack
from foreshock.jobs.records.shards import ShardStore
from foreshock.jobs.spec import JobKind, JobSpec
from foreshock.slurm.commands import SiteLimits, SlurmError, site_limits
from foreshock.slurm.journal import Journal, Submission
from foreshock.slurm.profile import parse_profile
from foreshock.slurm.submit import emit

EXIT_INCOMPLETE = 1
EXIT_HEAL = 76


def prepare_next_round(layout: RunLayout, plan: PlanFile, submission: Submission) -> bool:
    """Write the scripts that redo what `submission` left undone; False if there is nothing, or no point.

    There is no point when no round is left, or when the last round added not one whole shard.
    """
    specs = [spec for task in read_pack(layout, submission.pack, plan) for spec in task.specs]
    store = ShardStore(layout)
    missing = [spec for spec in specs if not store.is_complete(spec)]
    rows = sum(spec.n_rows for spec in missing)
    if not missing or submission.rounds_left < 1:
        return False
    if (next_folder(layout, submission) / "submit.sh").exists():
        return True  # an earlier attempt of this job was killed while it submitted; submit.sh goes on from there
    if submission.settings.get("healing") and rows >= submission.settings["rows_missing"]:
        _say("the last round added nothing; not submitting the same again")
        return False
    tasks = pack_tasks(missing, _site(layout, submission), layout, plan)
    entry = next_submission(submission, write_pack(layout, tasks), tasks, _limits(submission), rows)
    emit(Journal(layout.root), entry, make_scripts(layout, plan, entry), next_folder(layout, submission))
    _say(f"{len(missing)} shards ({rows} rows) are missing; {entry.rounds_left} more rounds after the next one")
    return True


def prepare_adaptive_round(layout: RunLayout, plan: PlanFile, submission: Submission) -> bool:
    """Write the scripts of the next adaptive round; False if there is none, or planned work is missing."""
    config = load_config(layout.config)
    if not config.adaptive.enabled:
        return False
    if (next_folder(layout, submission) / "submit.sh").exists():
        return True  # as in `prepare_next_round`
    missing = missing_specs(layout, plan)
    if not missing:
        plan = next_round(layout, plan, config) or plan
        missing = missing_specs(layout, plan)
    submitted = {
        spec.key()
        for entry in Journal(layout.root).load_all()
        for task in read_pack(layout, entry.pack, plan)
        for spec in task.specs
    }
    # A job killed between planning a round and submitting it left specs that no submission has.
    fresh = [spec for spec in missing if spec.kind is JobKind.EXTRA and spec.key() not in submitted]
    if not fresh or len(fresh) < len(missing):
        return False
    tasks = pack_tasks(fresh, _site(layout, submission), layout, plan)
    rows = sum(spec.n_rows for spec in fresh)
    entry = next_submission(submission, write_pack(layout, tasks), tasks, _limits(submission), rows)
    entry = replace(entry, rounds_left=config.execution.heal, settings=entry.settings | {"healing": False})
    emit(Journal(layout.root), entry, make_scripts(layout, plan, entry), next_folder(layout, submission))
    _say(f"adaptive round: {len(fresh)} shards ({rows} rows)")
    return True


def analyse_what_there_is(layout: RunLayout, plan: PlanFile) -> int:
    """Aggregate, analyse, and say what is missing; returns the exit code."""
    with recorded_status(layout) as status:
        aggregated, _ = finish(layout, load_config(layout.config), RunHooks(say=_say))
        status["rows"] = aggregated.to_json()
        missing = missing_specs(layout, plan)
        if not missing:
            return 0
        status["status"] = "incomplete"
        status["n_missing_shards"] = len(missing)
        status["exit_reason"] = f"{len(missing)} shards are missing"
    _say(f"missing: {describe(missing)}")
    _say(f"-> fix the cause (foreshock status {layout.root} quotes it), then: foreshock resume {layout.root}")
    return EXIT_INCOMPLETE


def describe(missing: list[JobSpec], most: int = 12) -> str:
    """Cells and their numbers of missing shards."""
    cells = Counter(
        f"{spec.kind.value} {spec.checkpoint.name} at {'+'.join(map(str, spec.levels))} words" for spec in missing
    )
    shown = [f"{cell} ({n} shards)" for cell, n in list(cells.items())[:most]]
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
        submission = next(s for s in Journal(layout.root).load_all() if s.pack == arguments.pack)
        if arguments.heal != 0 and prepare_next_round(layout, plan, submission):
            return EXIT_HEAL
        if prepare_adaptive_round(layout, plan, submission):
            return EXIT_HEAL
        return analyse_what_there_is(layout, plan)
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _site(layout: RunLayout, submission: Submission) -> Site:
    """The run's site with the profiles that it was submitted with: their files may be out of reach here."""
    return resolve_site(load_config(layout.config), journaled_site(submission))


def _limits(submission: Submission) -> SiteLimits:
    """The site's limits; inside an image, where nobody can be asked, the profile's or Slurm's default."""
    profile = parse_profile(submission.settings["profile"])
    try:
        return site_limits(profile)
    except SlurmError:
        return SiteLimits(profile.max_array_size or 1001, profile.max_submit)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
