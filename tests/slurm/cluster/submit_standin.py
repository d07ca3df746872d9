"""Submit a stand-in run as an ordinary user: `submit_standin.py REQUEST.json`; the request's keys are below."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program
from foreshock.slurm.journal import Journal, new_submission
from foreshock.slurm.profile import parse_profile
from foreshock.slurm.submit import Scripts, emit, submit


def main() -> None:
    """Make or continue the submission of pack 0."""
    request = json.loads(Path(sys.argv[1]).read_text())
    run = Path(request["run_dir"])
    here = Path(__file__).parent
    profile = parse_profile(request["profile"])
    journal = Journal(run)
    earlier = journal.load_all()
    submission = earlier[0] if earlier else new_submission(0, request["arrays"], "test", 0, {})
    worker = (*request.get("prefix", []), sys.executable, str(here / "standin_worker.py"), str(run), "--pack", "0")
    finish = ("bash", "-c", 'ls "$0"/rows | wc -l > "$0"/final-count; date +%s > "$0"/final-time', str(run))
    token, program = submission.token, Program.from_argv(worker)
    arrays = tuple(ArrayScript(job.name, token, run, 0, program, job.elements, profile) for job in submission.arrays)
    final_profile = parse_profile(request["final_profile"])
    end = FinalScript(f"fs-{token}-end", token, run, 0, Program.from_argv(finish), run / "next", final_profile)
    scripts = Scripts(arrays, end)
    if request.get("emit"):
        submission = emit(journal, submission, scripts, Path(request["emit"]))
    else:
        submission = submit(journal, submission, scripts)
    print(json.dumps(submission.to_json()))


if __name__ == "__main__":
    main()
