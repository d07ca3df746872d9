"""Submit a stand-in run as an ordinary user: `submit_standin.py REQUEST.json`; the request's keys are below."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program
from foreshock.slurm.journal import Journal, Stage, Submission, final_again, new_submission
from foreshock.slurm.profile import parse_profile
from foreshock.slurm.submit import Scripts, emit, settle, submit


def main() -> None:
    """Make or continue the submission of pack 0."""
    request = json.loads(Path(sys.argv[1]).read_text())
    run = Path(request["run_dir"])
    here = Path(__file__).parent
    profile = parse_profile(request["profile"])
    journal = Journal(run)
    earlier = journal.load_all()
    submission = settled(journal, earlier[-1]) if earlier else new_submission(0, request["arrays"], "test", 0, {})
    worker = (*request.get("prefix", []), sys.executable, str(here / "standin_worker.py"), str(run), "--pack", "0")
    finish = ("bash", "-c", 'ls "$0"/rows | wc -l > "$0"/final-count; date +%s > "$0"/final-time', str(run))
    token, program = submission.token, Program.from_argv(worker)
    arrays = tuple(ArrayScript(job.name, token, run, 0, program, job.elements, profile) for job in submission.arrays)
    final_profile = parse_profile(request["final_profile"])
    end = FinalScript(f"fs-{token}-end", token, run, 0, Program.from_argv(finish), run / "next", final_profile)
    scripts = Scripts(arrays, end)
    if submission.final is not None and submission.final.stage is Stage.DROPPED:
        submission = replace(submission, final=final_again(submission))
        scripts = replace(scripts, final=replace(end, name=submission.final.name))
    if request.get("emit"):
        submission = emit(journal, submission, scripts, Path(request["emit"]))
    else:
        submission = submit(journal, submission, scripts)
    print(json.dumps(submission.to_json()))


def settled(journal: Journal, earlier: Submission) -> Submission:
    """What was refused as a submission of its own, which is what `foreshock resume` makes of it."""
    dropped = [job for job in earlier.arrays if job.stage is Stage.DROPPED]
    if not dropped:
        return earlier
    settle(journal, earlier)
    return new_submission(1, [job.elements for job in dropped], "test", 0, {})


if __name__ == "__main__":
    main()
