"""The composed `apptainer exec` command lines, word for word."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.containers.compose import compose
from foreshock.containers.errors import ImageError
from foreshock.containers.launch import (
    Bind,
    ExecRequest,
    Flavour,
    GpuKind,
    pass_through_shell,
    quote,
    runtime_flavour,
    split_environment,
)

WORKER = ("python", "-m", "foreshock.jobs", "task", "7")


def test_cpu_command_line_mounts_no_home_no_driver_and_no_working_directory() -> None:
    launch = compose(ExecRequest("/images/foreshock-cpu.sif", WORKER, "/scratch/job-1"))
    assert launch.argv == (
        *("apptainer", "exec", "--cleanenv", "--no-eval", "--no-mount", "cwd", "--home", "/scratch/job-1/home"),
        *("--bind", "/scratch/job-1:/scratch/job-1:rw"),
        *("--bind", "/scratch/job-1/tmp:/tmp:rw", "--bind", "/scratch/job-1/tmp:/var/tmp:rw"),
        *("--pwd", "/scratch/job-1", "/images/foreshock-cpu.sif", "python", "-m", "foreshock.jobs", "task", "7"),
    )
    assert launch.folders == ("/scratch/job-1/home", "/scratch/job-1/tmp", "/scratch/job-1/cache")
    assert launch.environment == {
        "APPTAINERENV_FLASHINFER_WORKSPACE_BASE": "/scratch/job-1/cache",
        "APPTAINERENV_FORESHOCK_SCRATCH": "/scratch/job-1",
        "APPTAINERENV_HF_HOME": "/scratch/job-1/cache/huggingface",
        "APPTAINERENV_MPLCONFIGDIR": "/scratch/job-1/cache/matplotlib",
        "APPTAINERENV_NUMBA_CACHE_DIR": "/scratch/job-1/cache/numba",
        "APPTAINERENV_TORCHINDUCTOR_CACHE_DIR": "/scratch/job-1/cache/torchinductor",
        "APPTAINERENV_TRITON_CACHE_DIR": "/scratch/job-1/cache/triton",
        "APPTAINERENV_VLLM_CACHE_ROOT": "/scratch/job-1/cache/vllm",
        "APPTAINERENV_XDG_CACHE_HOME": "/scratch/job-1/cache",
    }


def test_gpu_command_line_brings_the_driver_the_binds_and_the_listed_environment() -> None:
    launch = compose(
        ExecRequest(
            "/images/foreshock-gpu.sif",
            WORKER,
            "/scratch/job-1/",
            binds=(Bind("/data/results", writable=True), Bind("/data/models", "/models")),
            gpus=2,
            environment={"VLLM_USE_V1": "1", "CUDA_VISIBLE_DEVICES": "0,1"},
            working_directory="/data/results/run-1",
            image_file="/images/foreshock-gpu.sif",
        )
    )
    assert launch.argv == (
        *("apptainer", "exec", "--cleanenv", "--no-eval", "--no-mount", "cwd", "--home", "/scratch/job-1/home", "--nv"),
        *("--bind", "/scratch/job-1:/scratch/job-1:rw"),
        *("--bind", "/scratch/job-1/tmp:/tmp:rw", "--bind", "/scratch/job-1/tmp:/var/tmp:rw"),
        *("--bind", "/data/results:/data/results:rw", "--bind", "/data/models:/models:ro"),
        *("--bind", "/images/foreshock-gpu.sif:/images/foreshock-gpu.sif:ro"),
        *("--pwd", "/data/results/run-1", "/images/foreshock-gpu.sif", *WORKER),
    )
    assert launch.environment["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "0,1"
    assert launch.environment["APPTAINERENV_VLLM_USE_V1"] == "1"
    assert launch.environment["APPTAINERENV_FORESHOCK_IMAGE_FILE"] == "/images/foreshock-gpu.sif"


def test_amds_gpus_bring_in_amds_driver() -> None:
    argv = compose(ExecRequest("/i.sif", ("true",), "/s", gpus=1, gpu_kind=GpuKind.ROCM)).argv
    assert "--rocm" in argv
    assert "--nv" not in argv


@pytest.mark.parametrize(
    ("flavour", "unpack", "options"),
    [
        (Flavour.APPTAINER, True, ["--unsquash"]),
        (Flavour.SINGULARITY_CE, True, ["--tmp-sandbox"]),
        (Flavour.SINGULARITY_CE, False, []),
    ],
)
def test_unpacking_and_names_follow_the_program(flavour: Flavour, unpack: bool, options: list[str]) -> None:
    launch = compose(ExecRequest("/images/sandbox", ("true",), "/scratch/x", runtime=flavour.value, unpack=unpack))
    assert launch.argv[0] == flavour.value
    assert [word for word in launch.argv if word in ("--unsquash", "--tmp-sandbox")] == options
    prefix = "SINGULARITYENV_" if flavour is Flavour.SINGULARITY_CE else "APPTAINERENV_"
    assert all(name.startswith(prefix) for name in launch.environment)


def test_a_run_without_network_gets_none() -> None:
    argv = compose(ExecRequest("/i.sif", ("true",), "/s", network=False)).argv
    assert argv[argv.index("--net") : argv.index("--net") + 3] == ("--net", "--network", "none")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ExecRequest("/i.sif", (), "/s"), "no command to run"),
        (ExecRequest("/i.sif", ("true",), "/s", gpus=-1), "gpus is -1; valid: 0 or more"),
        (ExecRequest("/i.sif", ("true",), "scratch"), "scratch 'scratch' is not an absolute path"),
        (ExecRequest("--fakeroot", ("true",), "/s"), "'--fakeroot' is not an image"),
        (ExecRequest("/i.sif", ("true",), "/s", binds=(Bind("data"),)), "bind 'data' is not an absolute path"),
        (ExecRequest("/i.sif", ("true",), "/s", binds=(Bind("/a,b"),)), "contains ':', ','"),
        (ExecRequest("/i.sqsh", ("true",), "/s", binds=(Bind("/a b"),), runtime="pyxis"), "a path with a space"),
        (ExecRequest("/i.sif", ("true",), "/s", environment={"A B": "1"}), "'A B' is not the name of an environment"),
        (ExecRequest("/i.sif", ("true",), "/s", environment={"HOME": "/x"}), "HOME cannot be set"),
    ],
)
def test_requests_that_cannot_work_are_refused_by_name(request_: ExecRequest, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        compose(request_)
    assert message in str(caught.value)


def test_the_shell_form_is_the_job_scripts_text() -> None:
    request = ExecRequest(
        "/images/a b.sif", ("echo", "it's"), "${FORESHOCK_SCRATCH}/job", environment={"A": "1 2"},
        pass_through=("SLURM_*", "TZ"),
    )  # fmt: skip
    lines = compose(request).shell().splitlines()
    assert (
        lines[0]
        == 'mkdir -p "${FORESHOCK_SCRATCH}"/job/home "${FORESHOCK_SCRATCH}"/job/tmp "${FORESHOCK_SCRATCH}"/job/cache'
    )
    assert lines[1] == (
        "for _name in $(compgen -e); do case $_name in SLURM_*|TZ) "
        'export "APPTAINERENV_$_name=${!_name}" ;; esac; done; unset _name'
    )
    assert 'export APPTAINERENV_FORESHOCK_SCRATCH="${FORESHOCK_SCRATCH}"/job' in lines
    assert "export APPTAINERENV_A='1 2'" in lines
    assert lines[-1] == (
        'apptainer exec --cleanenv --no-eval --no-mount cwd --home "${FORESHOCK_SCRATCH}"/job/home '
        '--bind "${FORESHOCK_SCRATCH}"/job:"${FORESHOCK_SCRATCH}"/job:rw '
        '--bind "${FORESHOCK_SCRATCH}"/job/tmp:/tmp:rw --bind "${FORESHOCK_SCRATCH}"/job/tmp:/var/tmp:rw '
        "--pwd \"${FORESHOCK_SCRATCH}\"/job '/images/a b.sif' echo 'it'\"'\"'s'"
    )


def test_variables_known_only_on_the_node_are_handed_over_and_others_are_not() -> None:
    script = pass_through_shell("APPTAINERENV_") + "\nenv"
    environment = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "12", "CUDA_VISIBLE_DEVICES": "0,1", "MY_TOKEN": "x"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    seen = {line for line in done.stdout.splitlines() if line.startswith("APPTAINERENV_")}
    assert seen == {"APPTAINERENV_SLURM_JOB_ID=12", "APPTAINERENV_CUDA_VISIBLE_DEVICES=0,1"}


@given(st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=0x2FF), max_size=30))
def test_quoting_keeps_every_character(word: str) -> None:
    # Words without variables: what the shell sees is what was given.
    assert shlex.split(quote(word.replace("$", "")), posix=True) == [word.replace("$", "")]


@pytest.mark.parametrize("name", ["A;B", "*", "1A", "A B"])
def test_pass_through_names_cannot_smuggle_shell(name: str) -> None:
    with pytest.raises(ImageError, match="is not a variable name"):
        pass_through_shell("APPTAINERENV_", (name,))


def test_a_profiles_env_sets_and_hands_over() -> None:
    assert split_environment(("VLLM_X=a=b,c", "NCCL_*", "HF_TOKEN")) == ({"VLLM_X": "a=b,c"}, ("NCCL_*", "HF_TOKEN"))
    for bad in ("A B=1", "=1", "A;B", "*"):
        with pytest.raises(ImageError, match="variable"):
            split_environment((bad,))


def test_binds_as_profiles_write_them() -> None:
    assert [Bind.parse(text).option() for text in ("/a", "/a:/b", "/a:/b:rw", "/a::rw")] == [
        *("/a:/a:ro", "/a:/b:ro", "/a:/b:rw", "/a:/a:rw"),
    ]
    for bad in ("a", "/a:b", "/a:/b:rx", "/a:/b:ro:", "/a,b", ""):
        with pytest.raises(ImageError, match="bind"):
            Bind.parse(bad)


def test_the_value_of_a_secret_is_kept_out_of_files() -> None:
    for bad in ("HF_TOKEN=hf_abc", "OPENAI_API_KEY=sk", "AWS_SECRET_ACCESS_KEY=x", "db_password=x"):
        with pytest.raises(ImageError, match="give the name alone"):
            split_environment((bad,))
    split_environment(("TOKENIZERS_PARALLELISM=false", "VLLM_MAX_TOKENS=7", "HF_TOKEN=", "HF_TOKEN=${SITE_TOKEN}"))


def test_the_runtime_is_recognised_by_its_version_line() -> None:
    assert runtime_flavour("apptainer version 1.4.5\n") is Flavour.APPTAINER
    assert runtime_flavour("singularity-ce version 4.1.2-jammy") is Flavour.SINGULARITY_CE
    for old in ("singularity version 3.5.2", "singularity-ce version 3.11.4", ""):
        with pytest.raises(ImageError, match="neither Apptainer nor SingularityCE 4"):
            runtime_flavour(old)
