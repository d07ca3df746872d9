"""The emitted scripts: the exact text, valid bash, clean under shellcheck."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from foreshock.slurm.jobscript import ArrayScript, FinalScript, Program, host_side, render, render_submit
from foreshock.slurm.profile import parse_profile

RUN = Path("/scratch/runs/sweep one")
PROFILE = parse_profile(
    {
        "partition": "gpu-low",
        "account": "lab",
        "gpus_per_node": 1,
        "cpus_per_task": 8,
        "mem": "64G",
        "time": "02:00:00",
        "array_throttle": 2,
        "setup": ["module load apptainer"],
        "scratch": "$LOCAL_SCRATCH",
        "offline": True,
        "sbatch": {"comment": "it's ours", "exclusive": True},
    }
)
WORKER = Program.from_argv(("python", "-m", "foreshock.jobs", str(RUN), "--pack", "3"))
ARRAY = ArrayScript("fs-0a1b2c3d-a0", "0a1b2c3d", RUN, 3, WORKER, ((0,), (1, 4), (2,)), PROFILE)
FINAL = FinalScript(
    "fs-0a1b2c3d-end",
    "0a1b2c3d",
    RUN,
    3,
    Program.from_argv(("python", "-m", "foreshock.batch.heal", str(RUN), "--pack", "3")),
    RUN / "slurm" / "after-0a1b2c3d",
    parse_profile({"partition": "cpu", "time": 60, "canary": False}),
)

GOLDEN_ARRAY = """\
#!/bin/bash
# foreshock: array of workers of /scratch/runs/sweep one
#SBATCH --account=lab
#SBATCH --array=0-2%2
#SBATCH --comment='it'"'"'s ours'
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --gres=gpu:1
#SBATCH --job-name=fs-0a1b2c3d-a0
#SBATCH --mem=64G
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output='/scratch/runs/sweep one/logs/slurm/%x-%A_%a.log'
#SBATCH --partition=gpu-low
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=120

FS_RUN_DIR='/scratch/runs/sweep one'
FS_TOKEN=0a1b2c3d
FS_PACK=3
FS_NO_PROGRESS_LIMIT=3
FS_CANARY=1
FS_NODE_FAILURE_S=60
# tasks of the pack, by array element
FS_TASKS=(0 '1 4' 2)

<host side>
fs_arrive
# the site's own setup
module load apptainer

FS_SCRATCH_BASE="$LOCAL_SCRATCH"
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
fs_prepare() {
  FS_WORKER=(python -m foreshock.jobs '/scratch/runs/sweep one' --pack 3)
}
fs_array_main
"""

GOLDEN_FINAL = """\
#!/bin/bash
# foreshock: aggregate and analyse of /scratch/runs/sweep one
#SBATCH --cpus-per-task=1
#SBATCH --job-name=fs-0a1b2c3d-end
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --open-mode=append
#SBATCH --output='/scratch/runs/sweep one/logs/slurm/%x-%j.log'
#SBATCH --partition=cpu
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --time=60

FS_RUN_DIR='/scratch/runs/sweep one'
FS_TOKEN=0a1b2c3d
FS_PACK=3
FS_NO_PROGRESS_LIMIT=3
FS_CANARY=0
FS_NEXT='/scratch/runs/sweep one/slurm/after-0a1b2c3d'

<host side>
fs_arrive
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
fs_prepare() {
  FS_FINISH=(python -m foreshock.batch.heal '/scratch/runs/sweep one' --pack 3)
}
fs_final_main
"""


@pytest.mark.parametrize(("script", "golden"), [(ARRAY, GOLDEN_ARRAY), (FINAL, GOLDEN_FINAL)])
def test_the_text_is_exactly_this(script: ArrayScript | FinalScript, golden: str) -> None:
    assert render(script).replace(host_side(), "<host side>") == golden


@pytest.mark.parametrize(
    "text",
    [
        render(ARRAY),
        render(FINAL),
        render_submit(["a0", "a1"], "end"),
        render_submit(["a0"], None),
        render_submit([], "end"),
        host_side(),
    ],
    ids=["array", "final", "submit", "submit-arrays-only", "submit-final-only", "host-side"],
)
def test_all_shell_is_valid_and_clean(text: str, tmp_path: Path, shellcheck: str) -> None:
    path = tmp_path / "script.sh"
    path.write_text(text)
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    argv = [shellcheck, "--shell=bash", "--severity=warning", "--exclude=SC2034", str(path)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_many_elements_are_wrapped(tmp_path: Path) -> None:
    script = ArrayScript("n", "t", RUN, 0, WORKER, tuple((i,) for i in range(45)), PROFILE)
    tasks = next(line for line in script.body() if line.startswith("FS_TASKS"))
    assert max(map(len, tasks.splitlines())) < 100


def test_scratch_in_a_prelude_is_left_to_the_nodes_shell() -> None:
    program = Program('apptainer exec --bind "${FS_SCRATCH}":/tmp image.sif python', ('mkdir -p "${FS_SCRATCH}"/home',))
    assert program.lines("FS_WORKER") == [
        "fs_prepare() {",
        '  mkdir -p "${FS_SCRATCH}"/home',
        '  FS_WORKER=(apptainer exec --bind "${FS_SCRATCH}":/tmp image.sif python)',
        "}",
    ]


def test_values_of_several_lines_reach_the_program_as_they_are() -> None:
    value = "one\ntwo\x0c three\u2028\n"
    program = Program("true", (f"export A={shlex.quote(value)}",))
    script = "\n".join((*program.lines("FS_WORKER"), "fs_prepare", 'printf %s "$A"'))
    assert subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout == value.encode()
