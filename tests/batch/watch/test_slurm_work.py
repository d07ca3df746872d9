"""A watch on a cluster: each spec is submitted once, whoever fails or restarts. Slurm's programs are stand-ins here;
tests/slurm/cluster has the real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.execute import execute
from foreshock.batch.running.run import create_run
from foreshock.batch.site import resolve_site
from foreshock.batch.watch.work import work_on
from foreshock.slurm.journal import Journal
from foreshock.slurm.lock import LauncherLock

_SBATCH = """#!/bin/sh
# Takes a job, names it in the queue, and prints what sbatch prints.
for last; do :; done
name=$(sed -n 's/^#SBATCH --job-name=//p' "$last")
n=$(wc -l < {queue})
echo "$((100 + n))|$name|PENDING|0:00|(None)|Priority" >> {queue}
echo "$name" >> {log}
echo "Submitted batch job $((100 + n))"
"""


class Queue:
    """What squeue shows and what sbatch was given."""

    def __init__(self, folder: Path) -> None:
        self.file, self.log = folder / "queue", folder / "submitted"
        self.file.write_text("")
        self.log.write_text("")

    @property
    def submitted(self) -> list[str]:
        return self.log.read_text().split()

    def clear(self) -> None:
        """Every job has ended."""
        self.file.write_text("")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    programs = tmp_path / "bin"
    programs.mkdir()
    queue = Queue(tmp_path)
    texts = {
        "sbatch": _SBATCH.format(queue=queue.file, log=queue.log),
        "squeue": f"#!/bin/sh\ncat {queue.file}\n",
        "srun": "#!/bin/sh\n",
        "sacct": "#!/bin/sh\nexit 1\n",
    }
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return queue


@pytest.fixture
def slurm_settings(tmp_path: Path, make_config: Callable[..., RunConfig]) -> RunConfig:
    profile = tmp_path / "site.yaml"
    profile.write_text(yaml.safe_dump({"partition": "low", "max_array_size": 4, "max_submit": 1000}))
    return make_config(
        checkpoints={"steps": [1, 2]},
        problems={"max_problems": 2},
        prefill={"levels": [0]},
        sampling={"attempts": 1, "max_tokens": 4},
        logprob={"enabled": False},
        execution={"cluster": "slurm", "profile": str(profile)},
    )


def test_each_spec_is_submitted_once_and_waited_for(
    slurm_settings: RunConfig, make_config: Callable[..., RunConfig], queue: Queue
) -> None:
    plan = make_plan(slurm_settings)
    layout = create_run(slurm_settings, plan, ["foreshock", "watch"])

    def step(specs: Any) -> Any:
        return work_on(layout, plan.file, resolve_site(slurm_settings), specs, lambda snapshot: None)

    first, second = plan.file.specs
    one = step([first])
    assert one.waiting == {first.key()}
    assert one.failed_checkpoints() == []
    assert len(queue.submitted) == 2  # an array and the job after it
    both = step([first, second])
    assert both.waiting == {first.key(), second.key()}
    assert len(queue.submitted) == 4
    assert step([first, second]).waiting == both.waiting
    assert len(queue.submitted) == 4
    assert not LauncherLock(Journal(layout.root).root / "launcher").held()
    queue.clear()
    # the arrays and their last jobs have ended: the second checkpoint was done, the first failed for good
    local = make_config(execution={"cluster": "inline"})
    assert not execute(layout, plan.file, resolve_site(local), specs=[second]).missing
    ended = step([first, second])
    assert [spec.key() for spec in ended.missing] == [first.key()]
    assert [checkpoint.name for checkpoint in ended.failed_checkpoints()] == ["checkpoint-1"]
    assert len(queue.submitted) == 4
