"""`python -m foreshock.batch.as_jobs FOLDER --pack P --task 0`: what the job of a command executes.

Exit codes: 0 done; 75 stopped early with everything finished on disk, run again; 1 failed, as the log says.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments (the process's own if not given) and do the command."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.batch.as_jobs", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pack", type=int, required=True, help="number of the submission")
    parser.add_argument("--task", type=int, required=True, help="always 0: a command is one task")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that the job was submitted for: stop if none is seen")
    arguments = parser.parse_args(argv)

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in foreshock.__main__
    from foreshock.jobs.stop_flag import StopFlag

    stop = StopFlag()
    stop.install()  # before what takes seconds to import: a notice in that time must not end the process
    from foreshock.batch.as_jobs.work import run_command

    return run_command(arguments.folder, stop, arguments.pack, arguments.gpus)


if __name__ == "__main__":
    sys.exit(main())
