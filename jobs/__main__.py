"""`python -m foreshock.jobs RUN_DIR --pack P --task I`: what an array task executes.

Exit codes: 0 complete; 75 stopped early with everything finished on disk, run again; 1 something failed (the
progress file and standard error say what); 2 the arguments or the run directory are wrong.

The tie to the parent is made before anything heavy is imported, so that a launcher killed while its workers start
leaves none behind.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_EXIT_STOPPED = 75  # worker.EXIT_STOPPED, which is too heavy to import here


def follow_parent(parent: int) -> bool:
    """Ask the kernel for SIGTERM when the parent dies; False if it is dead already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments (the process's own if not given) and run the task."""
    parser = argparse.ArgumentParser(prog="python -m foreshock.jobs", description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--pack", type=int, required=True, help="number of the pack, packs/pack-NNNN.json")
    parser.add_argument("--task", type=int, required=True, help="index of the array task in the pack")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs that the job was planned for: stop if none is seen")
    parser.add_argument("--parent", type=int, help="stop when this process, the parent, is gone")
    arguments = parser.parse_args(argv)
    if arguments.parent is not None and not follow_parent(arguments.parent):
        return _EXIT_STOPPED

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in foreshock.__main__, for workers that Slurm starts
    from foreshock.errors import ForeshockError
    from foreshock.jobs.records.layout import RunLayout
    from foreshock.jobs.stop_flag import StopFlag
    from foreshock.jobs.worker import run_array_task

    stop = StopFlag()
    stop.install()
    array_job, array_task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    slurm_job = f"{array_job}_{array_task}" if array_job else os.environ.get("SLURM_JOB_ID")
    try:
        return run_array_task(
            RunLayout(arguments.run_dir), arguments.pack, arguments.task, stop, slurm_job, arguments.gpus
        )
    except ForeshockError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
