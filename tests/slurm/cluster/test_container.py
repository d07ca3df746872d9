"""Workers inside Apptainer: stop requests reach them, and the host requeues what they cannot."""

from __future__ import annotations

import os
import shutil
import signal
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", params=["sandbox", "sif"])
def launcher(request: pytest.FixtureRequest, cancelling_bed: Any) -> list[str]:
    """`apptainer exec` with an image whose programs are this machine's /usr, as a folder or as a mounted SIF."""
    if shutil.which("apptainer") is None:
        pytest.skip("needs apptainer; docs/slurm.md says how the images are built")
    home = cancelling_bed.folder("image")
    tree = home / "tree"
    links = "for d in bin sbin lib lib64; do ln -s usr/$d $0/$d; done"
    folders = "mkdir -p $0/{usr,etc,proc,sys,dev,tmp,var/tmp,home,root}; touch $0/etc/{passwd,group,hosts,resolv.conf}"
    cancelling_bed.as_user(
        "bash", "-c", f"{folders}; {links}; touch $0/etc/{{passwd,group,hosts,resolv.conf}}", str(tree)
    )
    image = tree
    if request.param == "sif":
        image = home / "image.sif"
        cancelling_bed.as_user("apptainer", "build", str(image), str(tree))
    folders = ("/usr:/usr:ro", str(cancelling_bed.state), str(cancelling_bed.helpers.resolve()))
    binds = [word for folder in folders for word in ("--bind", folder)]
    return ["apptainer", "exec", "--no-home", *binds, str(image)]


def test_a_preempted_container_finishes_its_batch_and_is_requeued(
    cancelling_bed: Any, array_tools: ModuleType, launcher: list[str]
) -> None:
    run = array_tools.StandIn(cancelling_bed, "boxed", batches=14, profile={"gpus_per_node": 1})
    run.submit([[[0], [1]]], prefix=launcher)
    run.wait_running(0, 0)
    run.wait_running(1, 1)
    cancelling_bed.preempt("n1")
    cancelling_bed.wait_idle(240)
    hit = 0 if "stop requested" in run.log(0) else 1
    assert "ended with exit code 75" in run.log(hit)
    assert "attempt 1" in run.log(hit)
    assert "attempt 1" not in run.log(1 - hit)
    assert [run.rows(task) for task in range(2)] == [14, 14]
    assert [run.repeats(task) for task in range(2)] == [0, 0]
    run.check_clean()


def test_a_killed_container_is_requeued(cancelling_bed: Any, array_tools: ModuleType, launcher: list[str]) -> None:
    run = array_tools.StandIn(cancelling_bed, "boxed-kill", batches=6)
    run.misbehave(1, "die-early")
    run.submit([[[0], [1]]], prefix=launcher)
    run.wait_running(0, 0)
    os.kill(int((run.dir / "generated-00000").read_text().split()[1]), signal.SIGKILL)
    cancelling_bed.wait_idle(240)
    assert "ended with exit code 137" in run.log(0)
    assert "ended with exit code 140" in run.log(1)
    assert [run.rows(task) for task in range(2)] == [6, 6]
    assert run.repeats(0) <= 1
    run.check_clean()
