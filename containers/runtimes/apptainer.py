"""Apptainer and SingularityCE: images are SIF files or sandbox folders, run in the job's own batch step.

Values of variables travel in `APPTAINERENV_NAME` rather than in `--env NAME=VALUE`, because that option splits values
at commas; without `--no-eval` a shell inside would run what `$` and backticks in them say. One command line serves
setuid and unprivileged installations.
"""

from __future__ import annotations

from functools import partial

from foreshock.containers.launch import ExecRequest, GpuKind, Launch, all_binds, inside_environment
from foreshock.containers.runtimes.spec import Runtime

_NAMES = {"apptainer": ("APPTAINERENV_", "--unsquash"), "singularity": ("SINGULARITYENV_", "--tmp-sandbox")}


def compose(request: ExecRequest, *, program: str) -> Launch:
    """`apptainer exec` or `singularity exec`."""
    prefix, unpack = _NAMES[program]
    scratch = request.scratch.rstrip("/")
    argv = [program, "exec", "--cleanenv", "--no-eval", "--no-mount", "cwd", "--home", f"{scratch}/home"]
    if request.gpus:
        argv.append("--rocm" if request.gpu_kind is GpuKind.ROCM else "--nv")
    if request.unpack:
        argv.append(unpack)
    if not request.network:
        argv += ["--net", "--network", "none"]
    for bind in all_binds(request):
        argv += ["--bind", bind.option()]
    argv += ["--pwd", request.working_directory or scratch, request.image, *request.command]
    inside = {f"{prefix}{name}": value for name, value in inside_environment(request).items()}
    return Launch.of(request, tuple(argv), inside, prefix=prefix)


def verify(image: str, key: str | None, *, program: str) -> tuple[str, ...]:
    """Checks a SIF's signature against the user's keyring, or against one public key."""
    return (program, "verify", *(("--key", key) if key else ("--local",)), image)


APPTAINER, SINGULARITY = (
    Runtime(
        name=name,
        summary=summary,
        program=name,
        images="a .sif file or a sandbox folder",
        takes_files=True,
        can_unpack=True,
        gpus=("nvidia", "rocm"),
        compose=partial(compose, program=name),
        verify=partial(verify, program=name),
    )
    for name, summary in (("apptainer", "Apptainer"), ("singularity", "SingularityCE 4 or newer"))
)
