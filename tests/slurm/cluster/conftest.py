"""The testbed as a fixture: brought up once, taken down at the end, for tests marked `cluster`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"cluster_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"cluster_{name}"] = module
    spec.loader.exec_module(module)
    return module


testbed = _load("testbed")

TOGETHER = {
    "faults": ("test_faults.py", "test_testbed.py"),
    "arrays": ("test_arrays.py", "test_doctor.py"),
    "sweeps": ("test_command_jobs.py", "test_sweep.py", "test_first_day.py"),
    "sites": ("test_container.py", "test_sites.py"),
}
"""Files that one process runs, one after the other: they share a cluster, and what ran on it."""


@pytest.hookimpl(optionalhook=True)  # unknown without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` by `TOGETHER`. With pytest 9.2, xdist's own forgets its marks (pytest-xdist issue 1386)."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    group_of = {file: group for group, files in TOGETHER.items() for file in files}

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].rpartition("/")[2]
            return group_of.get(file, file)

        def _reschedule(self, node: Any) -> None:
            """No more work behind a test of many minutes; a process starts a test once it knows the next."""
            if self.assigned_work and self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

    return ByGroup(config, log)


def _require() -> None:
    if os.geteuid() != 0 or shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs root and Slurm: `sudo slurm/testbed/testbed.sh install`, then `make test-cluster`")


def _cluster(name: str, ports: int, *options: str) -> Iterator[Any]:
    """A cluster of this process's own: with pytest-xdist several stand side by side, each with its user and ports."""
    _require()
    os.umask(0o022)  # what root writes for the ordinary user
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw"))
    state, user = Path("/tmp") / f"foreshock-test-{name}{worker}", f"fs-{name}{worker}"
    testbed.take_down(state)
    bed = testbed.Testbed(state, user)
    try:
        testbed.bring_up("--state", str(state), "--user", user, "--port-base", str(ports + 50 * worker), *options)
        testbed.make_interpreter(bed)
        yield bed
    finally:
        if not os.environ.get("FORESHOCK_KEEP_TESTBED"):
            testbed.take_down(state)


@pytest.fixture(scope="session")
def bed() -> Iterator[Any]:
    """Two nodes, preemption by requeueing, job arrays of at most ten elements."""
    yield from _cluster("requeue", 17800, "--max-array", "11", "--grace", "8")


@pytest.fixture(scope="module")
def cancelling_bed() -> Iterator[Any]:
    """Preemption kills jobs for good (PreemptMode=CANCEL), and sends the site's own notice."""
    yield from _cluster("cancel", 18800, "--preempt", "CANCEL", "--user-signal", "--grace", "8")


@pytest.fixture(scope="module")
def image_bed() -> Iterator[Any]:
    """For runs inside an image; arrays of any size."""
    yield from _cluster("image", 19800, "--grace", "8")


@pytest.fixture(scope="session")
def testbed_tools() -> ModuleType:
    """How testbeds are brought up and taken down."""
    _require()
    return testbed


@pytest.fixture(scope="session")
def sweep() -> ModuleType:
    """Inputs and configuration of a small real sweep."""
    return _load("sweep")


@pytest.fixture(scope="session")
def inputs(bed: Any, sweep: ModuleType, make_checkpoint: object) -> Path:
    """Checkpoints and traces on the cluster's shared disk."""
    folder = Path(bed.state) / "inputs"
    folder.mkdir()
    sweep.write_inputs(folder, make_checkpoint)
    return folder


@pytest.fixture(scope="session")
def sweep_tools() -> ModuleType:
    """The helpers of test_sweep."""
    return _load("test_sweep")


@pytest.fixture(scope="session")
def undisturbed(bed: Any, sweep: ModuleType, inputs: Path, sweep_tools: ModuleType) -> Any:
    """A sweep that ran without any fault: what all others must equal."""
    run = sweep_tools.make(bed, sweep, inputs, "undisturbed")
    run.foreshock("run", str(run.config))
    bed.wait_idle(600)
    return run


@pytest.fixture(scope="session")
def array_tools() -> ModuleType:
    """The helpers of test_arrays."""
    return _load("test_arrays")
