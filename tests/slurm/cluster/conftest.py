"""The testbed as a fixture: brought up once, taken down at the end, for tests marked `cluster`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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


def _require() -> None:
    if os.geteuid() != 0 or shutil.which("slurmctld", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs root and Slurm: `sudo slurm/testbed/testbed.sh install`, then `make test-cluster`")


def _cluster(name: str, user: str, *options: str) -> Iterator[object]:
    _require()
    state = Path("/tmp") / f"foreshock-test-{name}"
    testbed.take_down(state)
    testbed.bring_up("--state", str(state), "--user", user, *options)
    bed = testbed.Testbed(state, user)
    try:
        testbed.make_interpreter(bed)
        yield bed
    finally:
        if not os.environ.get("FORESHOCK_KEEP_TESTBED"):
            testbed.take_down(state)


@pytest.fixture(scope="session")
def bed() -> Iterator[object]:
    """Two nodes, preemption by requeueing, job arrays of at most ten elements."""
    yield from _cluster("requeue", "fsbed-a", "--max-array", "11", "--port-base", "17800", "--grace", "8")


@pytest.fixture(scope="module")
def cancelling_bed() -> Iterator[object]:
    """Preemption kills jobs for good (PreemptMode=CANCEL), and sends the site's own notice."""
    options = ("--preempt", "CANCEL", "--user-signal", "--port-base", "18800", "--grace", "8")
    yield from _cluster("cancel", "fsbed-b", *options)


@pytest.fixture(scope="session")
def sweep() -> ModuleType:
    """Inputs and configuration of a small real sweep."""
    return _load("sweep")


@pytest.fixture(scope="session")
def inputs(bed: object, sweep: ModuleType, make_checkpoint: object) -> Path:
    """Checkpoints and traces on the cluster's shared disk."""
    folder = Path(str(bed.state)) / "inputs"  # type: ignore[attr-defined]
    folder.mkdir()
    sweep.write_inputs(folder, make_checkpoint)
    return folder


@pytest.fixture(scope="session")
def sweep_tools() -> ModuleType:
    """The helpers of test_sweep."""
    return _load("test_sweep")


@pytest.fixture(scope="session")
def array_tools() -> ModuleType:
    """The helpers of test_arrays."""
    return _load("test_arrays")
