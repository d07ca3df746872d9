"""Build plans for every builder, refusals before the work starts, and what failures say."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from foreshock.containers import build as building
from foreshock.containers import build_plan
from foreshock.containers.build import clean_environment, dry_run, run_plan, source_date_epoch, stage_context
from foreshock.containers.build_plan import BuildRequest, Step, check_request, plan
from foreshock.containers.engines import Engine, ImageKind, Machine, look
from foreshock.containers.errors import ImageError, explain
from foreshock.containers.launch import Flavour
from foreshock.containers.pins import Variant, read_pins

ROOT = Path(__file__).resolve().parents[2]
MACHINE = Machine(frozenset(Engine), Flavour.APPTAINER, is_root=False, can_drop_network=True, has_subordinate_ids=True)
BASE = "python:3.11@sha256:00"
ZSTD = ("--mksquashfs-args", "-comp zstd -Xcompression-level 6")


def request(**changes: object) -> BuildRequest:
    start = BuildRequest(
        variant=Variant.CPU,
        kind=ImageKind.OCI,
        engine=Engine.DOCKER,
        output="foreshock:cpu",
        context=Path("/context"),
        base=BASE,
        git_commit="abc",
        lock_sha256="def",
        epoch=7,
    )
    return replace(start, **changes)


def test_docker_builds_the_target_with_labels_inputs() -> None:
    (step,) = plan(request(), MACHINE, Path("/scratch"))
    assert step.argv == (
        *("docker", "build", "--build-arg", f"BASE_IMAGE={BASE}"),
        *("--build-arg", "GIT_COMMIT=abc", "--build-arg", "LOCK_SHA256=def", "--build-arg", "SOURCE_DATE_EPOCH=7"),
        *("--target", "cpu", "--tag", "foreshock:cpu", "--file", "/context/Dockerfile", "/context"),
    )


def test_wheels_make_a_build_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
    offline = request(wheels=Path("/wheels"), djinn=Path("/djinn"), variant=Variant.GPU, pip_config=Path("/pip.conf"))
    (docker,) = plan(offline, MACHINE, Path("/scratch"))
    assert docker.argv[:4] == ("docker", "build", "--network", "none")
    buildah, again, unnamed, commit = plan(replace(offline, engine=Engine.BUILDAH), MACHINE, Path("/scratch"))
    assert buildah.argv == (
        *("unshare", "--net", "buildah", "build", "--layers", "--isolation", "chroot", "--timestamp", "7"),
        *("--build-arg", f"CUDA_BASE_IMAGE={BASE}", "--build-arg", "GIT_COMMIT=abc", "--build-arg", "LOCK_SHA256=def"),
        *("--build-arg", "SOURCE_DATE_EPOCH=7"),
        *("--build-context", "wheels=/wheels", "--build-context", "djinn=/djinn"),
        *("--secret", "id=pipconf,src=/pip.conf", "--target", "cuda", "--tag", "foreshock:cpu"),
        *("--file", "/context/Dockerfile", "/context"),
    )
    # A cached layer's history names the base as it was once called, and the history is part of an image's id.
    assert again.argv[-1] == commit.argv[-1] == "foreshock:cpu"
    assert unnamed.argv == ("buildah", "config", "--annotation", "-", commit.argv[-2])  # of the digest in a registry
    assert {"--omit-history", "--timestamp"} < set(commit.argv)


def test_a_local_base_is_named_by_its_content(tmp_path: Path) -> None:
    tar = tmp_path / "base.tar"
    tar.write_bytes(b"one")
    first = plan(request(base=str(tar), engine=Engine.PODMAN), MACHINE, tmp_path)
    name = first[0].argv[-1]
    assert first[0].argv == ("podman", "import", str(tar), name)
    assert f"BASE_IMAGE={name}" in first[1].argv
    tar.write_bytes(b"two")
    assert plan(request(base=str(tar), engine=Engine.PODMAN), MACHINE, tmp_path)[0].argv[-1] != name
    buildah = plan(request(base=str(tar), engine=Engine.BUILDAH), MACHINE, tmp_path)
    assert [step.argv[1] for step in buildah[:3]] == ["from", "add", "commit"]


def test_a_sif_on_a_local_base_unpacks_it_first(tmp_path: Path) -> None:
    tar = tmp_path / "base.tar"
    tar.write_bytes(b"one")
    unpack, build = plan(
        request(kind=ImageKind.SIF, engine=Engine.APPTAINER, base=str(tar), output="/out/f.sif", wheels=tmp_path),
        MACHINE,
        tmp_path,
    )
    assert unpack.argv[0] == "tar"
    assert "--exclude=./dev/*" in unpack.argv
    assert build.cwd == Path("/context")
    assert build.argv[:5] == ("apptainer", "build", *ZSTD, "--force")
    assert build.argv[5:7] == ("--bind", f"{tmp_path}:/mnt:ro")
    for argument in ("VARIANT=cpu", "BOOTSTRAP=localimage", "FROM=base", "GIT_COMMIT=abc", "EPOCH=7"):
        assert argument in build.argv
    assert build.argv[-2:] == ("/out/f.sif", "apptainer.def")


@pytest.mark.parametrize("engine", [Engine.DOCKER, Engine.PODMAN, Engine.BUILDAH])
def test_an_oci_image_becomes_a_sif_through_a_docker_archive(engine: Engine) -> None:
    wanted = request(kind=ImageKind.SIF, engine=engine, from_oci="localhost/foreshock:cpu", output="/out/f.sif")
    save, convert = plan(wanted, MACHINE, Path("/scratch"))
    assert save.argv[0] == engine.value
    assert any("/scratch/image.tar" in word for word in save.argv)
    assert convert.argv == ("apptainer", "build", *ZSTD, "--force", "/out/f.sif", "docker-archive:image.tar")
    assert (convert.cwd, convert.epoch) == (Path("/scratch"), 7)


def test_apptainer_is_given_nothing_of_the_users_environment() -> None:
    given = {
        "HOME": "/home/me",
        "PATH": "/bin",
        "PYTHONPATH": "/mine",
        "PIP_INDEX_URL": "x",
        "APPTAINER_TMPDIR": "/big",
    }
    given |= {"APPTAINERENV_SECRET": "x", "https_proxy": "p", "LD_LIBRARY_PATH": "/x"}
    kept = clean_environment(given, "/empty", 7)
    assert kept == {
        "HOME": "/empty", "PATH": "/bin", "APPTAINER_TMPDIR": "/big", "https_proxy": "p", "SOURCE_DATE_EPOCH": "7",
        "APPTAINER_CACHEDIR": "/home/me/.apptainer/cache", "APPTAINER_CONFIGDIR": "/home/me/.apptainer",
    }  # fmt: skip


def test_the_epoch_is_pinned_unless_the_environment_says_otherwise() -> None:
    assert source_date_epoch({}) == read_pins().epoch
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "12"}) == 12
    with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH is 'today'; valid: whole seconds since 1970"):
        source_date_epoch({"SOURCE_DATE_EPOCH": "today"})


def test_the_first_builder_found_is_used_and_a_missing_one_is_named() -> None:
    only_podman = replace(MACHINE, engines=frozenset({Engine.PODMAN}))
    assert only_podman.choose(ImageKind.OCI, None) is Engine.PODMAN
    with pytest.raises(ImageError, match=r"no builder for sif images on PATH; install one of: apptainer"):
        only_podman.choose(ImageKind.SIF, None)
    with pytest.raises(ImageError, match=r"docker is not installed; found: podman"):
        only_podman.choose(ImageKind.OCI, Engine.DOCKER)
    with pytest.raises(ImageError, match=r"apptainer does not build oci images; valid: buildah, docker, podman"):
        only_podman.choose(ImageKind.OCI, Engine.APPTAINER)


def test_an_old_singularity_stands_in_the_way_of_sif_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in (("singularity", "echo singularity version 3.5.2"), ("podman", "true"), ("unshare", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine = look()
    assert machine.choose(ImageKind.OCI, None) is Engine.PODMAN
    with pytest.raises(ImageError, match=r"no builder for sif .*'singularity version 3.5.2' is neither Apptainer nor"):
        machine.choose(ImageKind.SIF, None)


def test_refusals_come_before_the_work_and_name_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = {
        "base.tar does not exist; make one: containers/ci/base.sh": request(base=str(tmp_path / "base.tar")),
        "is a folder; docker needs a tar": request(base=str(empty)),
        "is a folder, but no root filesystem": request(base=str(empty), kind=ImageKind.SIF, engine=Engine.APPTAINER),
        "holds no wheels; fill it: containers/ci/wheelhouse.sh cpu": request(wheels=empty),
        "is not a checkout of djinn; run containers/ci/djinn.sh": request(djinn=empty),
        "--pip-config /nowhere does not exist": request(pip_config=Path("/nowhere")),
    }
    monkeypatch.setattr(build_plan, "NEEDED_BYTES", {Variant.CPU: 0, Variant.GPU: 10**18})
    for message, wrong in refused.items():
        with pytest.raises(ImageError) as caught:
            check_request(wrong, MACHINE, tmp_path)
        assert message in str(caught.value)
    with pytest.raises(ImageError, match=r"GB free at .*, a gpu image needs 1000000000 GB .*set TMPDIR"):
        check_request(request(variant=Variant.GPU), MACHINE, tmp_path)


def test_missing_subordinate_ids_and_an_unknown_commit_are_told_before_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_plan, "NEEDED_BYTES", {Variant.CPU: 0, Variant.GPU: 0})
    poor = replace(MACHINE, has_subordinate_ids=False)
    wanted = request(kind=ImageKind.SIF, engine=Engine.APPTAINER)
    assert "usermod --add-subuids" in check_request(wanted, poor, tmp_path)[0]
    assert check_request(wanted, replace(poor, is_root=True), tmp_path) == []
    (said,) = check_request(replace(wanted, git_commit="unknown"), MACHINE, tmp_path)
    assert "git knows no commit of /context" in said


# Real last lines of the builders, found by making each failure happen or in their public trackers.
FAILURES = {
    "writing blob: write /var/tmp/x: no space left on device": "TMPDIR",
    "FATAL: While performing build: mksquashfs: Write failed because No space left on device": "TMPDIR",
    'Error: initializing source docker://python:3.11: pinging container registry registry-1.example: Get "https://'
    'registry-1.example/v2/": dial tcp: lookup registry-1.example: no such host': "--base TAR",
    "FATAL: Unable to build from python: conveyor failed to get: dial tcp 1.2.3.4:443: i/o timeout": "--base TAR",
    "Error: manifest unknown: manifest unknown": "containers/pins.toml",
    "Error: localhost/foreshock:none: image not known": "podman images",
    "FATAL: While checking container encryption: could not open image /x: image format not recognized": "a .sif file",
    'Error: short-name "nvidia/cuda" did not resolve to an alias and no unqualified-search registries are defined': (
        "--base NAME@sha256:DIGEST"
    ),
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.": "--wheels",
    "ERROR: Could not find a version that satisfies the requirement numpy==2.3.5": "--wheels FOLDER",
    "cannot find UID/GID for user u: no subuid ranges found for user in /etc/subuid": "usermod --add-subuids",
    "ERROR: Could not write info to setgroups: unshare: Operation not permitted": "setuid",
    "FATAL: container creation failed: squashfuse: fuse: device not found, try 'modprobe fuse' first": "--unpack",
    "Error: crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied": "ordinary user",
    "ERROR  : Requesting capability set 0x000001ffffffffff while permitted capability set is 0x000001fffeffffff": (
        "as an ordinary user"
    ),
    "Error: OCI runtime error: crun: cgroups in hybrid mode not supported": "--engine buildah",
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.": "--engine podman",
}


@pytest.mark.parametrize("output", FAILURES)
def test_known_failures_are_explained_with_the_next_step(output: str) -> None:
    explanation = explain(f"some noise\n{output}\n", "python:3.11@sha256:00")
    assert explanation is not None
    assert "; next: " in explanation
    assert FAILURES[output] in explanation


def test_unknown_failures_are_not_explained() -> None:
    assert explain("gcc: internal compiler error") is None


def test_a_failing_step_shows_its_last_lines_and_where_the_rest_is(tmp_path: Path) -> None:
    code = "print('before'); print('Error: manifest unknown'); raise SystemExit(3)"
    step = Step("build cpu", (sys.executable, "-c", code))
    log = tmp_path / "logs" / "build.log"
    with pytest.raises(ImageError) as caught:
        run_plan([step], log, "python:3.11", lambda _text: None)
    said = str(caught.value)
    assert "build cpu failed with exit code 3" in said
    assert "  | Error: manifest unknown" in said
    assert "The base image python:3.11 does not exist in the registry; next: check the digest" in said
    assert said.endswith(f"Full output: {log}")


def test_a_step_that_is_done_already_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    fails = (sys.executable, "-c", "raise SystemExit(1)")
    succeeds = (sys.executable, "-c", "")
    steps = [Step("done", fails, unless=succeeds), Step("to do", succeeds, unless=fails)]
    run_plan(steps, tmp_path / "log", "", said.append)
    assert said == ["to do"]


def test_a_missing_program_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no-such-builder: not found on PATH; is it installed\?"):
        run_plan([Step("build", ("no-such-builder",))], tmp_path / "log", "", lambda _text: None)


def test_the_context_holds_what_git_knows_and_keeps_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "src" / "foreshock").mkdir(parents=True)
    (source / "batch").mkdir()
    for name in ("pyproject.toml", "batch/a.py", "batch/ignored.log", "secret.txt"):
        (source / name).write_text(name)
    (source / "src" / "foreshock" / "batch").symlink_to("../../batch")
    (source / ".gitignore").write_text("*.log\n")
    (source / ".dockerignore").write_text("*\n!pyproject.toml\n!src\n!batch\n!docs\n")
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    stage_context(source, tmp_path / "context")
    staged = {
        p.relative_to(tmp_path / "context").as_posix()
        for p in (tmp_path / "context").rglob("*")
        if not p.is_dir() or p.is_symlink()
    }
    assert staged == {"pyproject.toml", "batch/a.py", "src/foreshock/batch"}
    assert (tmp_path / "context" / "src" / "foreshock" / "batch").is_symlink()


def test_the_context_without_git_holds_the_same_source_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "batch" / "__pycache__").mkdir(parents=True)
    (source / "batch" / "a.py").write_text("")
    (source / "batch" / "__pycache__" / "a.pyc").write_text("")
    (source / "secret.txt").write_text("")
    (source / ".dockerignore").write_text("*\n!batch\n")
    stage_context(source, tmp_path / "context")
    staged = [p.relative_to(tmp_path / "context").as_posix() for p in (tmp_path / "context").rglob("*") if p.is_file()]
    assert staged == ["batch/a.py"]


def test_a_dry_run_prints_the_commands_and_runs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_plan, "NEEDED_BYTES", {Variant.CPU: 0, Variant.GPU: 0})
    base = tmp_path / "a base.tar"
    base.write_bytes(b"tar")
    wanted = request(base=str(base), kind=ImageKind.SIF, engine=Engine.APPTAINER, output=str(tmp_path / "o.sif"))
    unpack, build_sif = dry_run(wanted, MACHINE)
    assert unpack.endswith(f"--directory CONTEXT/base --file '{base}'")
    assert build_sif.startswith("cd CONTEXT && apptainer build ")
    converting = request(from_oci="x:1", kind=ImageKind.SIF, engine=Engine.PODMAN)
    assert dry_run(converting, MACHINE)[0].startswith("podman save")
    assert [path.name for path in tmp_path.iterdir()] == ["a base.tar"]


def test_images_are_built_from_a_checkout(tmp_path: Path) -> None:
    assert building.find_source(None) == ROOT
    with pytest.raises(ImageError, match=r"images are built from a checkout: give --source FOLDER"):
        building.find_source(tmp_path)
