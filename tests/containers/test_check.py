"""How the self-test is started in each kind of image."""

from __future__ import annotations

import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from foreshock.containers.check import ENTER, Run, compose_run, run_in_image, runtime_failure, selftest_command
from foreshock.containers.engines import Engine, Machine
from foreshock.containers.errors import ImageError
from foreshock.containers.launch import Flavour
from foreshock.containers.selftest import Gpu

COMMAND = selftest_command(Gpu.NONE, as_json=False)
MACHINE = Machine(frozenset(Engine), Flavour.APPTAINER, is_root=False, can_drop_network=True, has_subordinate_ids=True)


def test_a_sif_runs_offline_with_scratch_only(tmp_path: Path) -> None:
    image = tmp_path / "a.sif"
    image.write_bytes(b"")
    run = compose_run(str(image), COMMAND, MACHINE, tmp_path / "s", unpack=True)
    assert run.argv[:2] == ("apptainer", "exec")
    assert {"--cleanenv", "--unsquash", "none"} < set(run.argv)
    assert "--nv" not in run.argv
    assert run.argv[-len(COMMAND) :] == COMMAND


def test_docker_and_podman_run_without_network_and_with_gpus_only_on_request(tmp_path: Path) -> None:
    docker = compose_run("foreshock:cpu", COMMAND, MACHINE, tmp_path)
    assert docker.argv == (
        *("docker", "run", "--rm", "--pull=never", "--network", "none", "--entrypoint", ENTER, "foreshock:cpu"),
        *("python", "-m", "foreshock.containers.selftest", "--gpu", "none"),
    )
    podman = compose_run("foreshock:cuda", COMMAND, MACHINE, tmp_path, engine=Engine.PODMAN, gpus=True)
    assert podman.argv[3:8] == ("--pull=never", "--network", "none", "--device", "nvidia.com/gpu=all")


def test_buildah_uses_a_working_container_and_removes_it(tmp_path: Path) -> None:
    only = replace(MACHINE, engines=frozenset({Engine.BUILDAH}))
    run = compose_run("foreshock:cpu", COMMAND, only, tmp_path)
    assert run.argv[:6] == ("unshare", "--net", "buildah", "run", "--isolation", "chroot")
    holder = f"foreshock-check-{os.getpid()}"  # two checks at once do not meet
    assert run.before[-1] == ("buildah", "from", "--pull=never", "--name", holder, "foreshock:cpu")
    assert run.after == (("buildah", "rm", holder),)
    assert run.argv[6:] == (holder, "--", ENTER, *COMMAND)


def test_an_image_that_is_not_there_and_a_machine_without_runtime_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image at .*gone\.sif; build one: foreshock image build --output"):
        compose_run(str(tmp_path / "gone.sif"), COMMAND, MACHINE, tmp_path)
    with pytest.raises(ImageError, match=r"docker, podman and buildah are all missing"):
        compose_run("foreshock:cpu", COMMAND, replace(MACHINE, engines=frozenset()), tmp_path)


def test_what_is_no_image_is_told_as_what_it_is(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    for image, said in (
        ("", "no image is named"),
        (str(tmp_path), "is a folder, but no root filesystem"),
        (str(tmp_path / "x.tar"), "is an archive, which nothing starts; load it"),
        ("oci-archive:/x.tar", "is an archive"),
        ("./gone", "no image at ./gone"),
    ):
        with pytest.raises(ImageError, match=said):
            compose_run(image, COMMAND, MACHINE, tmp_path)


def test_the_commands_exit_code_and_output_come_back(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['MARK']); sys.exit(5)"
    run = Run((str(tmp_path / "made"),), {"MARK": "seen"}, (sys.executable, "-c", code))
    done = run_in_image(run, dict(os.environ))
    assert (done.returncode, done.stdout) == (5, "seen\n")
    assert (tmp_path / "made").is_dir()


def test_a_runtime_that_fails_is_explained(tmp_path: Path) -> None:
    code = (
        "import sys; print('FATAL: squashfuse mount failed: /dev/fuse: no such device', file=sys.stderr); sys.exit(255)"
    )
    run = Run((), {}, (sys.executable, "-c", code))
    message = str(runtime_failure(run, run_in_image(run, dict(os.environ))))
    assert "  | FATAL: squashfuse mount failed" in message
    assert "FUSE does not work here, so the image file cannot be mounted; next: run it unpacked: --unpack" in message
