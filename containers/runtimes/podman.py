"""Podman and NERSC's podman-hpc: images are names in the user's own store, one container a worker.

Variables are handed over by name (`--env NAME`), so no value is split or shows in the process list. podman passes on
the signals that it gets, `--init` passes them on inside, and reaps. A container outlives a podman that is killed: the
job's end removes it.
"""

from __future__ import annotations

from functools import partial

from foreshock.containers.errors import ImageError
from foreshock.containers.launch import ExecRequest, GpuKind, Launch, all_binds, inside_environment, quote
from foreshock.containers.runtimes.spec import Runtime
from foreshock.image_record import IMAGE_ID

_NAME = "${FS_CONTAINER}"
_NVIDIA: dict[str, tuple[str, ...]] = {"podman": ("--device", "nvidia.com/gpu=all"), "podman-hpc": ("--gpu",)}
_ROCM = ("--device", "/dev/kfd", "--device", "/dev/dri", "--group-add", "keep-groups")


def compose(request: ExecRequest, *, program: str) -> Launch:
    """`podman run`, as the calling user, seeing what is listed."""
    if request.unpack:
        raise ImageError(f"{program} does not unpack images at each start; leave `unpack` out of the container")
    scratch = request.scratch.rstrip("/")
    argv = [program, "run", "--rm", "--replace", "--name", _NAME, "--init", "--userns", "keep-id"]
    argv += ["--pull", "never", "--security-opt", "seccomp=unconfined", "--security-opt", "label=disable"]
    argv += ["--network", "host" if request.network else "none"]
    if request.gpus:
        argv += _ROCM if request.gpu_kind is GpuKind.ROCM else _NVIDIA[program]
    inside = {"HOME": f"{scratch}/home", **inside_environment(request)}
    for name in (*inside, *request.pass_through, IMAGE_ID):
        argv += ["--env", name]
    for bind in all_binds(request):
        argv += ["--volume", bind.option()]
    argv += ["--workdir", request.working_directory or scratch, "--entrypoint", "", request.image, *request.command]
    image = quote(request.image)
    return Launch.of(
        request,
        tuple(argv),
        inside,
        setup=(
            f'export FS_CONTAINER=foreshock-${{SLURM_JOB_ID:-none}}-$$ {IMAGE_ID}=""',
            f"{IMAGE_ID}=$({program} image inspect --format '{{{{.Id}}}}' {image}) || {IMAGE_ID}=\"\"",
            f"{IMAGE_ID}=${{{IMAGE_ID}:+sha256:${{{IMAGE_ID}#sha256:}}}}",  # as docker writes it, and plans
        ),
        cleanup=(f'{program} rm --force --ignore "$FS_CONTAINER" >/dev/null 2>&1',),
    )


def verify(image: str, key: str | None) -> tuple[str, ...]:
    """cosign checks the image in its registry, with a public key."""
    if key is None:
        raise ImageError("an OCI image's signature is checked with cosign and a public key; set `key` in the container")
    return ("cosign", "verify", "--key", key, image)


PODMAN, PODMAN_HPC = (
    Runtime(
        name=name,
        summary=summary,
        program=name,
        images="the name of an image that the node has",
        takes_files=False,
        can_unpack=False,
        gpus=("nvidia", "rocm"),
        compose=partial(compose, program=name),
        verify=verify,
    )
    for name, summary in (("podman", "Podman, without root"), ("podman-hpc", "podman-hpc, as at NERSC"))
)
