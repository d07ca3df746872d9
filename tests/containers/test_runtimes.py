"""Every runtime's command line, word for word; and a real tiny sweep through stand-ins for those that are not here."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from foreshock.containers.compose import compose
from foreshock.containers.errors import ImageError
from foreshock.containers.identity import require_image_name
from foreshock.containers.launch import Bind, ExecRequest, GpuKind, Launch
from foreshock.containers.linked import linked_folders
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
WORKER = ("python3", "-m", "foreshock.jobs", "/run")
CACHES = (
    "XDG_CACHE_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR",
)  # fmt: skip
OWN = ("/s:/s:rw", "/s/tmp:/tmp:rw", "/s/tmp:/var/tmp:rw")


def composed(runtime: str, image: str, **more: Any) -> Launch:
    given = {"binds": (Bind("/run", writable=True), Bind("/models")), "environment": {"VLLM_X": "a,b"}} | more
    return compose(ExecRequest(image, WORKER, "/s", runtime=runtime, **given))


@pytest.mark.parametrize(
    ("program", "gpu"), [("podman", ("--device", "nvidia.com/gpu=all")), ("podman-hpc", ("--gpu",))]
)
def test_podman_runs_as_the_user_with_what_is_listed_and_is_removed_at_the_end(
    program: str, gpu: tuple[str, ...]
) -> None:
    launch = composed(program, "foreshock:cuda", gpus=1, pass_through=("SLURM_*", "NCCL_*"))
    names = ("HOME", *CACHES, "FORESHOCK_SCRATCH", "VLLM_X", "SLURM_*", "NCCL_*", "FORESHOCK_IMAGE_ID")
    assert launch.argv == (
        *(program, "run", "--rm", "--replace", "--name", "${FS_CONTAINER}", "--init", "--userns", "keep-id"),
        *("--pull", "never", "--security-opt", "seccomp=unconfined", "--security-opt", "label=disable"),
        *("--network", "host", *gpu),
        *(word for name in names for word in ("--env", name)),
        *(word for bind in (*OWN, "/run:/run:rw", "/models:/models:ro") for word in ("--volume", bind)),
        *("--workdir", "/s", "--entrypoint", "", "foreshock:cuda", *WORKER),
    )
    assert launch.environment["HOME"] == "/s/home"
    assert launch.environment["VLLM_X"] == "a,b"
    assert launch.cleanup == (f'{program} rm --force --ignore "$FS_CONTAINER" >/dev/null 2>&1',)
    told = "".join(f"{line}\n" for line in launch.setup) + "echo $FORESHOCK_IMAGE_ID"
    for said, known in (("echo abc", "sha256:abc"), ("echo sha256:abc", "sha256:abc"), ("false", "")):
        script = f"{program}() {{ {said}; }}\n{told}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == known  # podman prints bare digits; plans name the image as `image digest` does


def test_pyxis_exports_names_mounts_folders_and_leaves_home_out() -> None:
    launch = composed("pyxis", "/images/f.sqsh", image_file="/images/f.sqsh", pass_through=("SLURM_*", "HF_TOKEN"))
    mounts = (*OWN, "/run:/run:rw", "/models:/models:ro", "/images/f.sqsh:/images/f.sqsh:ro")
    assert launch.argv == (
        *("srun", "--ntasks=1", "--nodes=1", "--overlap", "--cpus-per-task=${SLURM_CPUS_PER_TASK}"),
        *("--kill-on-bad-exit=1", "--quiet", "--export=${FS_EXPORT}", "--container-env=${FS_EXPORT}"),
        *("--container-image=/images/f.sqsh", f"--container-mounts={','.join(mounts)}", "--container-workdir=/s"),
        *("--no-container-mount-home", "--no-container-entrypoint", *WORKER),
    )
    assert launch.environment["NVIDIA_VISIBLE_DEVICES"] == "void"  # no GPU was asked for
    assert composed("pyxis", "/i.sqsh", gpus=1).environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert launch.cleanup == ()
    script = "\n".join((*launch.setup, "echo $FS_EXPORT"))
    environment = {"PATH": os.environ["PATH"], "HF_TOKEN": "x", "SLURM_JOB_ID": "1", "MY_SECRET": "y"}
    said = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
    exported = said.strip().split(",")
    assert {"HOME", "VLLM_X", "HF_TOKEN", "SLURM_JOB_ID", "FORESHOCK_IMAGE_FILE", *CACHES} <= set(exported)
    assert not {"MY_SECRET", "PATH", "PYTHONPATH"} & set(exported)


@pytest.mark.parametrize("name", RUNTIMES.names())
def test_every_runtime_keeps_to_the_same_rules(name: str) -> None:
    facts = RUNTIMES.get(name)
    launch = composed(name, "/images/f.img" if facts.takes_files else "f:img", gpus=1, gpu_kind=GpuKind.ROCM)
    words = " ".join(launch.argv)
    assert launch.argv[0] == facts.program
    assert launch.argv[-len(WORKER) :] == WORKER
    for bind in (*OWN, "/run:/run:rw", "/models:/models:ro"):
        assert bind in words
    assert "a,b" not in words  # values are not on a command line, where commas split and everyone reads
    assert any("a,b" in value for value in launch.environment.values())
    assert "PYTHONPATH" not in launch.shell()
    assert launch.folders == ("/s/home", "/s/tmp", "/s/cache")
    assert subprocess.run(["bash", "-n"], input=launch.shell(), text=True, check=False).returncode == 0
    if not facts.can_unpack:
        with pytest.raises(ImageError, match="leave `unpack` out"):
            composed(name, "/images/f.img", unpack=True)


@pytest.mark.parametrize(
    ("runtime", "image", "said"),
    [
        *(
            (runtime, image, f"`{runtime} build IMAGE.sif {image}`")
            for runtime in ("apptainer", "singularity")
            for image in (
                "docker://python:3",
                "oras://r/x:1",
                "oci-archive:a.tar",
                "docker-daemon:x:1",
                "library://a/b",
            )
        ),
        ("apptainer", "images/x.sif", "not an absolute path"),
        ("apptainer", "~/x.sif", "not an absolute path"),
        ("apptainer", "$HOME/x.sif", "not an absolute path"),
        ("pyxis", "x.sqsh", "not an absolute path"),
        ("podman", "/images/x.sif", "podman load"),
        ("podman", "docker-archive:/x.tar", "podman load"),
        ("podman-hpc", "docker://x", "podman load"),
        ("apptainer", "/images/x.sif", None),
        ("apptainer", "${IMAGES}/x.sif", None),
        ("pyxis", "/x.sqsh", None),
        ("pyxis", "nvcr.io#nvidia/pytorch:24.01-py3", None),
        ("pyxis", "docker://x", None),
        ("podman", "localhost/foreshock:gpu", None),
        ("podman", "registry:5000/foreshock@sha256:ab", None),
    ],
)
def test_an_image_is_named_as_its_runtime_takes_it(runtime: str, image: str, said: str | None) -> None:
    if said is None:
        require_image_name(image, runtime)
        return
    with pytest.raises(ImageError) as caught:
        require_image_name(image, runtime)
    assert said in str(caught.value)


def test_an_unknown_runtime_is_told_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match="unknown container runtime 'shifter'; valid: apptainer, podman, podman-hpc"):
        composed("shifter", "/i")


def test_links_in_models_are_followed_to_where_they_lead(tmp_path: Path) -> None:
    store, disk = tmp_path / "store" / "blobs", tmp_path / "disk" / "deep"
    model = tmp_path / "run" / "checkpoint-1"
    for folder in (store, disk, model):
        folder.mkdir(parents=True)
    (disk / "weights").write_text("w")
    (store / "sha").symlink_to(disk / "weights")  # a chain: both ends are needed
    (model / "model.safetensors").symlink_to("../../store/blobs/sha")
    (model / "config.json").write_text("{}")
    (model / "gone").symlink_to("/nowhere/at/all")
    (model / "loop").symlink_to("loop")
    assert linked_folders([model]) == {store, disk}
    assert linked_folders([model], [tmp_path / "disk"]) == {store}
    whole = tmp_path / "alias"
    whole.symlink_to(model)
    assert linked_folders([whole]) == {model, store, disk}
    assert linked_folders([tmp_path]) == set()


@pytest.fixture
def sweep() -> ModuleType:
    """Inputs and configuration of the cluster tests' sweep."""
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "tests" / "slurm" / "cluster" / "sweep.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install_fakes(folder: Path, *programs: str) -> None:
    """Stand-ins on a PATH of their own; scontrol answers nothing."""
    folder.mkdir()
    for program in programs:
        shutil.copy(ROOT / "tests" / "support" / "fake_runtime.py", folder / program)
        (folder / program).chmod(0o755)
    (folder / "scontrol").write_text("#!/bin/sh\nexit 0\n")
    (folder / "scontrol").chmod(0o755)


@pytest.mark.image
@pytest.mark.parametrize(("runtime", "program"), [("pyxis", "srun"), ("podman-hpc", "podman-hpc")])
def test_a_real_sweep_runs_through_the_runtime(
    runtime: str, program: str, tmp_path: Path, sweep: ModuleType, make_checkpoint: Callable[..., Any]
) -> None:
    inputs, folder, fakes = tmp_path / "inputs", tmp_path / "site", tmp_path / "fakes"
    inputs.mkdir()
    folder.mkdir()
    sweep.write_inputs(inputs, make_checkpoint)
    install_fakes(fakes, program)
    image = tmp_path / "images" / "foreshock.sqsh"
    image.parent.mkdir()
    image.write_bytes(b"squashed")
    name = str(image) if runtime == "pyxis" else "foreshock:cpu"
    container = {"image": name, "runtime": runtime, "env": ["MARK=a,b", "HF_TOKEN"], "binds": [str(ROOT), sys.prefix]}
    profile = {
        "container": container,
        "python": sys.executable,
        "max_array_size": 4,
        "array_throttle": 1,
        "canary": False,
    }
    sections = {"checkpoints": {"steps": [1]}, "prefill": {"levels": [0]}, "verifier": {"allow_weak_sandbox": True}}
    config = sweep.write_config(folder, inputs, profile | {"gpus_per_node": 0}, **sections)
    outside = {
        "PATH": f"{fakes}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    command = [sys.executable, "-m", "foreshock", "plan", str(config), "--emit-sbatch", str(tmp_path / "scripts")]
    subprocess.run(command, env=outside, check=True, capture_output=True, text=True)
    (script,) = (tmp_path / "scripts").glob("*a0.sbatch")
    (run_dir,) = (folder / "results" / "prefill_sensitivity").iterdir()
    job = outside | {
        "USER": "me", "TMPDIR": str(tmp_path), "SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_NAME": script.stem, "SLURMD_NODENAME": "n1", "HF_TOKEN": "t",
        "MY_SECRET": "s", "PYTHONPATH": "/mine",
    }  # fmt: skip
    done = subprocess.run(["bash", str(script)], env=job, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = [json.loads(line) for line in (fakes / "calls.jsonl").read_text().splitlines()]
    ran = next(call for call in calls if "mounts" in call)
    assert {"MARK", "HF_TOKEN", "SLURM_JOB_ID", "HF_HOME"} <= set(ran["environment"])
    assert not {"MY_SECRET", "PYTHONPATH"} & set(ran["environment"])
    assert f"{run_dir}:{run_dir}:rw" in ran["mounts"]
    manifests = [json.loads(path.read_text()) for path in run_dir.glob("shards/**/*.manifest.json")]
    assert manifests
    record = json.loads((run_dir / "ran" / f"{manifests[0]['ran']}.json").read_text())
    if runtime == "pyxis":
        assert record["image"]["file_sha256"] == manifests[0]["image_digest"]
    else:
        assert manifests[0]["image_digest"] == "sha256:" + "f00d" * 16
        assert any(call.get("other", [""])[0] == "rm" for call in calls)
    assert not list(tmp_path.glob("foreshock-me-*"))
