"""Real images, built here without a registry and run without network: `make test-image`, 8 GB.

FORESHOCK_IMAGES names the folder that keeps base, wheels and images between runs (default: below the temporary
folder). FORESHOCK_DJINN names a checkout of djinn at the pinned commit, to have it in the images. Tests marked `long`
(the whole demo, the whole test suite, conversions) are left to people: continuous integration runs the demo's sweep,
on the models that `make demo` left in this checkout.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreshock.batch.demo.pipeline import DONOR_STEP
from foreshock.containers.build import stage_context
from foreshock.containers.check import ENTER
from foreshock.containers.compose import compose
from foreshock.containers.engines import look
from foreshock.containers.launch import Bind, ExecRequest
from foreshock.containers.lock import LockName, lock_path, read_lock
from foreshock.containers.pins import Variant, read_pins
from foreshock.image_record import IMAGE_FOLDER, RECORD

pytestmark = pytest.mark.image

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "containers" / "ci"
USER = "foreshock-image"
OCI = "localhost/foreshock:cpu"
TEST_OCI = "localhost/foreshock:test"
SOURCE = "/usr/local/foreshock/source"
INSIDE = ("tests/jobs/verify", "tests/jobs/engines", "tests/slurm")
"""What an image may change: the sandbox, torch's numbers, the shell."""
OFFLINE = (
    "unshare",
    "--net",
    sys.executable,
    "-c",
    "import fcntl, os, socket, struct, sys\n"
    "fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))  # SIOCSIFFLAGS, IFF_UP\n"
    "os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Runs a command with no network but its own loopback, which is down in a new namespace."""
LIMIT_BYTES = 2 * 10**9
PINS = read_pins()


@dataclass(frozen=True)
class Inputs:
    """What the builds start from, in a folder that an ordinary user may read."""

    folder: Path

    @property
    def options(self) -> list[str]:
        """Options of `foreshock image build`."""
        djinn = os.environ.get("FORESHOCK_DJINN")
        options = ["--base", str(self.folder / "base.tar"), "--wheels", str(self.folder / "wheels")]
        return [*options, *(["--djinn", djinn] if djinn else [])]


def run(*argv: str, cwd: Path | None = None) -> str:
    """Run a command; its output is the failure message."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def foreshock(*arguments: str, cwd: Path) -> str:
    """The command line of this checkout."""
    return run(sys.executable, "-m", "foreshock", *arguments, cwd=cwd)


def as_user(*argv: str, cwd: Path) -> str:
    """Run as an ordinary user, from a copy of the checkout that the user may read."""
    home = pwd.getpwnam(USER).pw_dir
    settings = [f"HOME={home}", f"PATH={os.environ['PATH']}", f"TMPDIR={cwd}", f"PYTHONPATH={cwd / 'checkout' / 'src'}"]
    return run("runuser", "-u", USER, "--", "env", "-i", *settings, *argv, cwd=cwd)


@pytest.fixture(scope="session")
def inputs() -> Iterator[Inputs]:
    """Tools, a local base, the wheels of both locks."""
    if os.geteuid() != 0:
        pytest.skip("needs root to install builders; on your own machine: foreshock image build")
    os.umask(0o022)  # what root writes for the ordinary user
    folder = Path(os.environ.get("FORESHOCK_IMAGES", Path(tempfile.gettempdir()) / "foreshock-images"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    run(str(CI / "tools.sh"))
    mine = subprocess.run(["id", USER], capture_output=True, check=False).returncode != 0
    run(str(CI / "user.sh"), USER)
    run(str(CI / "base.sh"), str(folder / "base.tar"))
    for lock in ("cpu", "test"):
        run(str(CI / "wheelhouse.sh"), lock, str(folder / "wheels"), sys.executable)
    yield Inputs(folder)
    if mine:
        run("userdel", "--force", "--remove", USER)


@pytest.fixture(scope="session")
def oci(inputs: Inputs) -> str:
    """The cpu image, built with buildah from Dockerfile."""
    foreshock("image", "build", "--kind", "oci", "--engine", "buildah", "-o", OCI, *inputs.options, cwd=inputs.folder)
    return OCI


@pytest.fixture(scope="session")
def user_folder(inputs: Inputs) -> Path:
    """A folder of the ordinary user with a copy of the checkout and an interpreter that can run its command line."""
    folder = inputs.folder / "user"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    stage_context(ROOT, folder / "checkout")
    system_python = shutil.which("python3", path="/usr/bin")
    assert system_python is not None, "the ordinary user needs the system's python3"
    # The command line alone needs few packages, all of them pure Python or built for the system's version too.
    wheels = [str(path) for path in (inputs.folder / "wheels").glob("*.whl") if not path.name.startswith("torch-")]
    names = ("typer", "click", "rich", "markdown_it_py", "mdurl", "pygments", "shellingham", "packaging")
    names += ("annotated_doc", "typing_extensions", "pyyaml", "pydantic", "pydantic_core", "annotated_types")
    names += ("typing_inspection",)
    chosen = [w for w in wheels if Path(w).name.lower().split("-")[0].replace(".", "_") in names]
    run(system_python, "-m", "venv", str(folder / "venv"))
    run(str(folder / "venv" / "bin" / "pip"), "install", "-q", "--no-index", "--no-deps", *chosen)
    run("chown", "-R", f"{USER}:", str(folder))
    return folder


@pytest.fixture(scope="session")
def sif(inputs: Inputs, user_folder: Path) -> Path:
    """The cpu SIF, built from apptainer.def by an ordinary user."""
    python = str(user_folder / "venv" / "bin" / "python")
    output = user_folder / "foreshock-cpu.sif"
    arguments = ["image", "build", "--kind", "sif", "-o", str(output), "--source", str(user_folder / "checkout")]
    as_user(python, "-m", "foreshock", *arguments, *inputs.options, cwd=user_folder)
    return output


@pytest.fixture(scope="session")
def converted_sif(oci: str, inputs: Inputs) -> Path:
    """The Docker image as a SIF."""
    return converted(oci, inputs.folder / "foreshock-from-oci.sif")


def converted(image: str, output: Path) -> Path:
    """An OCI image as a SIF, by way of a docker-archive."""
    arguments = ["image", "build", "--from-oci", image, "--engine", "buildah", "-o", str(output), "--force"]
    foreshock(*arguments, cwd=output.parent)
    output.chmod(0o644)
    return output


def in_oci(image: str, *command: str, folder: Path | None = None) -> str:
    """Run a command in an OCI image as its own user, without network; `folder` is mounted at its own path."""
    holder = "foreshock-test"
    subprocess.run(["buildah", "rm", holder], capture_output=True, check=False)
    run("buildah", "from", "--name", holder, image)
    mount = [] if folder is None else ["--volume", f"{folder}:{folder}"]
    try:
        return run(*OFFLINE, "buildah", "run", "--isolation", "chroot", *mount, holder, "--", ENTER, *command)
    finally:
        run("buildah", "rm", holder)


def in_sif(image: Path, folder: Path, *command: str) -> str:
    """Run a command in a SIF as the ordinary user, without network, by way of the launcher; `folder` is bound."""
    scratch = folder / "scratch"
    request = ExecRequest(
        str(image), command, str(scratch), (Bind(str(folder), writable=True),), working_directory=str(folder),
        runtime=look().flavour.value, image_file=str(image), network=False,
    )  # fmt: skip
    launch = compose(request)
    script = folder / "launch.sh"
    script.write_text(launch.shell(), encoding="utf-8")
    script.chmod(0o644)
    return as_user("bash", str(script), cwd=folder)


def checks(text: str) -> dict[str, str]:
    """Status by name of a self-test's JSON output."""
    return {check["name"]: check["status"] for check in json.loads(text)["checks"]}


EXPECTED = {
    "python": "ok", "versions": "ok", "cuda": "ok", "driver": "skipped", "vllm": "skipped", "compiler": "ok",
    "slurm": "ok", "user": "ok", "scratch": "ok", "offline": "ok", "contents": "ok", "sandbox": "ok",
    "djinn": "ok" if os.environ.get("FORESHOCK_DJINN") else "skipped",
}  # fmt: skip


def test_the_self_test_passes_in_the_docker_image(oci: str, inputs: Inputs) -> None:
    # buildah's chroot has no user namespaces, so the sandbox is the weaker one, which a check refuses without consent.
    arguments = ("image", "check", oci, "--engine", "buildah", "--gpu", "none", "--json", "--allow-weak-sandbox")
    assert checks(foreshock(*arguments, cwd=inputs.folder)) == EXPECTED


def test_the_self_test_passes_in_the_sif_as_an_ordinary_user(sif: Path, user_folder: Path) -> None:
    python = str(user_folder / "venv" / "bin" / "python")
    said = as_user(python, "-m", "foreshock", "image", "check", str(sif), "--gpu", "none", "--json", cwd=user_folder)
    assert checks(said) == EXPECTED
    detail = next(check["detail"] for check in json.loads(said)["checks"] if check["name"] == "sandbox")
    assert detail.startswith("tier full")


@pytest.mark.long
def test_the_self_test_passes_in_the_converted_image(converted_sif: Path, user_folder: Path) -> None:
    python = str(user_folder / "venv" / "bin" / "python")
    said = as_user(python, "-m", "foreshock", "image", "check", str(converted_sif), "--json", cwd=user_folder)
    assert checks(said) == EXPECTED


def test_the_docker_image_is_labelled_and_small(oci: str) -> None:
    facts = json.loads(run("buildah", "inspect", "--type", "image", oci))
    labels = facts["OCIv1"]["config"]["Labels"]
    assert labels["io.foreshock.lock.sha256"] == read_lock(lock_path(LockName.CPU)).sha256
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-dirty")) == 40
    assert facts["OCIv1"]["config"]["User"] == "1000:1000"
    size = int(run("buildah", "images", "--json", oci).split('"size": "')[1].split(" ")[0].split(".")[0])
    unit = json.loads(run("buildah", "images", "--json", oci))[0]["size"].split()[1]
    assert size * {"MB": 10**6, "GB": 10**9}[unit] < LIMIT_BYTES


def test_two_builds_by_different_builders_hold_the_same_files(
    oci: str, sif: Path, inputs: Inputs, user_folder: Path
) -> None:
    docker = foreshock("image", "digest", oci, "--content", cwd=inputs.folder).strip()
    record = json.loads(in_sif(sif, user_folder, "cat", str(IMAGE_FOLDER / RECORD)))
    # That the files are as the digest says is one of the self-test's checks, above.
    assert docker == record["content"]
    assert docker.startswith("content-sha256:")
    packages = json.loads(Path(f"{sif}.spdx.json").read_text())["packages"]
    names = {package["name"] for package in packages}
    assert {"torch", "foreshock", "libc6"} <= names
    here = in_sif(sif, user_folder, "cat", "/usr/share/doc/libc6/copyright")
    assert "GNU" in here


@pytest.mark.long
def test_two_builds_are_the_same_bit_for_bit(
    oci: str, sif: Path, inputs: Inputs, user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {image: foreshock("image", "digest", image, cwd=inputs.folder) for image in (oci, str(sif))}
    again = user_folder / "again"
    again.mkdir()
    run("chown", f"{USER}:", str(again))
    python = str(user_folder / "venv" / "bin" / "python")
    checkout = str(user_folder / "checkout")
    arguments = ["image", "build", "--kind", "sif", "-o", str(again / "b.sif"), "--source", checkout]
    as_user(python, "-m", "foreshock", *arguments, *inputs.options, cwd=user_folder)
    assert foreshock("image", "digest", str(again / "b.sif"), cwd=inputs.folder) == first[str(sif)]
    manifest = ["buildah", "inspect", "--type", "image", "--format", "{{.Manifest}}", oci]
    pushed = run(*manifest)  # what a registry would digest, its layers packed
    # A storage of its own has no layer cache.
    storage = tmp_path / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    options = ["--kind", "oci", "--engine", "buildah", "-o", oci, *inputs.options]
    foreshock("image", "build", *options, cwd=inputs.folder)
    assert foreshock("image", "digest", oci, cwd=inputs.folder) == first[oci]
    assert run(*manifest) == pushed


def test_a_sifs_digest_is_that_of_its_bytes(sif: Path, inputs: Inputs) -> None:
    with sif.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    assert foreshock("image", "digest", str(sif), cwd=inputs.folder).strip() == f"sha256:{expected}"
    assert Path(f"{sif}.sha256").read_text().split() == [expected, sif.name]


def test_the_gpu_lock_has_a_wheel_for_every_package_and_agrees_with_itself(tmp_path: Path) -> None:
    # Resolved with every package's own requirements and hashes, for the image's Python and C library; not downloaded.
    image = PINS.images[Variant.GPU]
    run(sys.executable, "-m", "venv", str(tmp_path / "tools"))
    run(str(tmp_path / "tools" / "bin" / "pip"), "install", "-q", f"uv=={PINS.uv}")
    uv = (str(tmp_path / "tools" / "bin" / "uv"), "pip", "install", "--dry-run", "--require-hashes")
    target = ("--only-binary", ":all:", "--python-version", image.python, "--python-platform", image.platform)
    argv = [*uv, *target, "--target", str(tmp_path / "nowhere"), "--requirement", str(lock_path(LockName.GPU))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line.removeprefix(" + ") for line in done.stderr.splitlines() if line.startswith(" + ")}
    assert found == {f"{name}=={version}" for name, version in read_lock(lock_path(LockName.GPU)).versions.items()}


def products(folder: Path) -> list[str]:
    """What a sweep leaves: evals, logprobs, report."""
    wanted = [("evals", "**/evals/*.jsonl"), ("logprob", "**/logprob/*.jsonl"), ("report", "**/report.html")]
    return [name for name, pattern in wanted if list(folder.glob(pattern))]


@pytest.fixture(scope="session")
def demo(request: pytest.FixtureRequest, user_folder: Path) -> Path:
    """The demo's results: those that `make demo` left in this checkout, else made now in the image.

    FORESHOCK_AWAIT_DEMO: seconds to wait for a `make demo` that runs beside this.
    """
    made = ROOT / "demo-results"
    deadline = time.monotonic() + float(os.environ.get("FORESHOCK_AWAIT_DEMO", "0"))
    while not (made / "report.html").is_file() and time.monotonic() < deadline:
        time.sleep(1.0)
    if (made / "report.html").is_file():
        return made
    folder = user_owned(user_folder / "demo", uid=pwd.getpwnam(USER).pw_uid)
    in_sif(request.getfixturevalue("sif"), folder, "foreshock", "demo", "--output", str(folder / "results"))
    return folder / "results"


def user_owned(folder: Path, uid: int) -> Path:
    """An empty folder that belongs to the user inside the container."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chown(folder, uid, uid)
    return folder


def small_sweep(demo: Path, folder: Path) -> Path:
    """A cut of the demo's own sweep on its own models, with all inputs and outputs below `folder`."""
    config = yaml.safe_load((demo / "configs" / "demo-exploit.yaml").read_text())
    models = Path(config["checkpoints"]["dir"])
    steps = [0, DONOR_STEP]
    for step in steps:
        shutil.copytree(models / f"checkpoint-{step}", folder / "checkpoints" / f"checkpoint-{step}")
    donor = folder / "donor" / f"checkpoint-{DONOR_STEP}"
    shutil.copytree(config["logprob"]["reference"], donor)
    shutil.copy(config["prefill"]["source"], folder / "traces.jsonl")
    config["results_dir"] = str(folder / "results")
    config["checkpoints"] = {"dir": str(folder / "checkpoints"), "steps": steps}
    config["prefill"] |= {"source": str(folder / "traces.jsonl"), "levels": [0, 10, 30]}
    config["logprob"]["reference"] = str(donor)
    config["sampling"]["attempts"] = 1
    config["verifier"]["allow_weak_sandbox"] = True  # buildah's chroot has no user namespaces; Apptainer has
    del config["ground_truth"], config["analysis"]
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    for entry in (folder, *folder.rglob("*")):
        entry.chmod(0o755 if entry.is_dir() else 0o644)
    return path


def test_the_demos_sweep_runs_inside_both_offline(
    oci: str, sif: Path, demo: Path, inputs: Inputs, user_folder: Path
) -> None:
    docker = user_owned(inputs.folder / "sweep", uid=1000)
    in_oci(oci, "foreshock", "run", str(small_sweep(demo, docker)), folder=docker)
    apptainer = user_owned(user_folder / "sweep", uid=pwd.getpwnam(USER).pw_uid)
    in_sif(sif, apptainer, "foreshock", "run", str(small_sweep(demo, apptainer)))
    for folder in (docker, apptainer):
        assert products(folder / "results") == ["evals", "logprob", "report"]
    assert rows(docker / "results") == rows(apptainer / "results")
    # What ran, as the workers measured it: one content in both, and of the SIF the file that it was.
    inside = [ran_records(folder / "results") for folder in (docker, apptainer)]
    assert len({ran["image"]["content"] for found in inside for ran in found}) == 1
    with sif.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert {ran["image"]["file_sha256"] for ran in inside[1]} == {f"sha256:{digest}"}
    assert "full" in {ran["sandbox_tier"] for ran in inside[1]}


def ran_records(results: Path) -> list[dict[str, Any]]:
    """What the shards of a results folder say computed them."""
    found = [json.loads(path.read_text()) for path in results.glob("prefill_sensitivity/*/ran/*.json")]
    assert found
    return found


def rows(results: Path) -> dict[str, list[dict[str, object]]]:
    """The final tables by name, without the sandbox's tier and the folder of the traces, which differ."""
    tables = [p for kind in ("evals", "logprob") for p in results.glob(f"prefill_sensitivity/*/{kind}/*.jsonl")]
    assert tables
    told = ("sandbox_tier", "prefill_source")
    return {
        f"{path.parent.name}/{path.name}": [
            {key: value for key, value in json.loads(line).items() if key not in told}
            for line in path.read_text().splitlines()
        ]
        for path in tables
    }


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sif", "converted_sif"])
def test_the_whole_demo_runs_inside_offline(kind: str, request: pytest.FixtureRequest, user_folder: Path) -> None:
    image = request.getfixturevalue(kind)
    folder = user_owned(user_folder / f"demo-{kind}", uid=pwd.getpwnam(USER).pw_uid)
    in_sif(image, folder, "foreshock", "demo", "--output", str(folder / "results"))
    assert products(folder / "results") == ["evals", "logprob", "report"]


@pytest.fixture(scope="session")
def image_with_tests(oci: str, inputs: Inputs) -> str:
    """The cpu image with the test suite and what it needs on top."""
    options = ["image", "build", "--kind", "oci", "--engine", "buildah", "--target", "test", "-o", TEST_OCI]
    foreshock(*options, *inputs.options, cwd=inputs.folder)
    return TEST_OCI


def pytest_command(*folders: str) -> list[str]:
    """pytest over folders of the test image's own checkout, which may be read-only."""
    marks = "not cluster and not image and not vllm and not checkout"
    run_pytest = f"python -m pytest -p no:cacheprovider -n 2 -m '{marks}' {' '.join(folders)}"
    return ["sh", "-c", f"cd {SOURCE} && HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis {run_pytest}"]


@pytest.mark.long
def test_tests_that_depend_on_where_they_run_pass_inside_offline(image_with_tests: str) -> None:
    assert " passed" in in_oci(image_with_tests, *pytest_command(*INSIDE))


@pytest.mark.long
def test_the_whole_test_suite_passes_inside_offline(image_with_tests: str, inputs: Inputs, user_folder: Path) -> None:
    """In Apptainer, since sweeps ask for the full sandbox and buildah's chroot has no user namespaces."""
    image = converted(image_with_tests, inputs.folder / "foreshock-test.sif")
    folder = user_owned(user_folder / "suite", uid=pwd.getpwnam(USER).pw_uid)
    assert " passed" in in_sif(image, folder, *pytest_command("tests", "--ignore", "tests/containers"))
