"""Arrays inside an Apptainer image on the testbed: preempted, requeued, resumed, same tables.

Needs an image of this very checkout: FORESHOCK_TEST_SIF names it; `make test-image` builds one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from foreshock.containers.digest import image_file_digest

pytestmark = [pytest.mark.cluster, pytest.mark.image]


@pytest.fixture(scope="module")
def sif() -> Path:
    """The image under test."""
    path = os.environ.get("FORESHOCK_TEST_SIF")
    if not path:
        pytest.skip("needs an image: set FORESHOCK_TEST_SIF to a .sif of this checkout (make test-image builds one)")
    assert Path(path).is_file(), f"FORESHOCK_TEST_SIF={path} does not exist"
    return Path(path)


@pytest.fixture(scope="module")
def image_inputs(image_bed: Any, sweep: ModuleType, make_checkpoint: Callable[..., Any]) -> Path:
    """Checkpoints and traces on the cluster's shared disk."""
    folder = Path(image_bed.state) / "inputs"
    folder.mkdir()
    sweep.write_inputs(folder, make_checkpoint)
    return folder


def test_an_image_whose_signature_is_gone_when_its_job_starts_computes_nothing(
    image_bed: Any, sweep: ModuleType, image_inputs: Path, sweep_tools: ModuleType, sif: Path
) -> None:
    bed, own, key, public = image_bed, *(image_inputs / name for name in ("signed.sif", "key.pem", "key.pub"))
    shutil.copyfile(sif, own)
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", str(key)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
    subprocess.run(["apptainer", "sign", "--key", str(key), str(own)], check=True)
    for path in (own, public):
        path.chmod(0o755)
    container = {"image": str(own), "nv": False, "verify": True, "key": str(public)}
    sections = {"checkpoints": {"steps": [1]}, "execution": {"heal": 0}}
    run = sweep_tools.make(
        bed, sweep, image_inputs, "unsigned", {"container": container, "python": "python3"}, **sections
    )
    with bed.drained():
        run.foreshock("run", str(run.config))  # signed as asked, or this would be refused
        shutil.copyfile(sif, own)
    bed.wait_idle(120)
    assert "the image is not signed as asked; nothing is started in it" in run.logs()
    assert not list(run.dir.glob("shards/**/*.manifest.json"))
    assert any("signature not found" in failure for failure in run.status()["failures"])


def make_in_image(tools: ModuleType, bed: Any, sweep: ModuleType, inputs: Path, name: str, sif: Path) -> Any:
    """A sweep whose workers and last job run in the image, long enough to be preempted."""
    container = {"container": {"image": str(sif), "nv": False, "binds": [str(inputs)]}, "python": "python3"}
    sections = {
        "sampling": {"attempts": 4, "max_tokens": 48},
        "prefill": {"assignment": "shared"},
        "execution": {"shard_tasks": 4, "heal": 3},
    }
    run = tools.make(bed, sweep, inputs, name, container, **sections)
    final = run.folder / "final.yaml"
    final.write_text(yaml.safe_dump(yaml.safe_load(final.read_text()) | container))
    return run


def test_an_array_in_the_image_is_preempted_resumes_gives_the_same_tables_and_tells_a_flipped_byte(
    image_bed: Any, sweep: ModuleType, image_inputs: Path, sweep_tools: ModuleType, sif: Path
) -> None:
    bed, inputs = image_bed, image_inputs
    calm = make_in_image(sweep_tools, bed, sweep, inputs, "image-calm", sif)
    calm.foreshock("run", str(calm.config))
    bed.wait_idle(900)
    assert calm.document()["status"] == "completed", calm.logs()

    own = inputs / "own.sif"  # a copy, to be damaged at the end
    shutil.copyfile(sif, own)
    own.chmod(0o755)
    run = make_in_image(sweep_tools, bed, sweep, inputs, "image-preempted", own)
    run.foreshock("run", str(run.config))
    bed.wait_until("a worker has written rows", lambda: bool(list(run.dir.glob("shards/*/*/*"))), 300)
    bed.preempt("n1")
    bed.preempt("n2")
    bed.wait_until("a worker was stopped", lambda: "requeueing" in run.logs(), 120)
    bed.wait_idle(900)

    assert run.document()["status"] == "completed", run.logs()
    assert run.tables() == calm.tables()
    manifests = [json.loads(path.read_text()) for path in run.dir.glob("shards/**/*.manifest.json")]
    assert manifests
    assert {manifest["image_digest"] for manifest in manifests} == {image_file_digest(sif)}

    with own.open("r+b") as file:  # in the line that says how a shell would start it, which nothing reads
        file.seek(len("#!/usr/bin/env run-"))
        file.write(b"S")
    lost = min(run.dir.glob("shards/eval/**/*.manifest.json"))
    lost.unlink()
    run.foreshock("resume", str(run.dir))
    bed.wait_idle(300)
    assert run.tables() == calm.tables()
    assert json.loads(lost.read_text())["image_digest"] == image_file_digest(own) != image_file_digest(sif)
    assert [note for note in run.status()["notes"] if "1 shard computed in another file of the same contents" in note]
