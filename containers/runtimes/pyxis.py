"""pyxis, NVIDIA's Slurm plugin over enroot: the worker is a job step that srun starts in the image.

enroot hands the whole environment in, so srun gets a list of what to export; pyxis lets the image's own values win
unless a variable is named in --container-env. The container is gone with its step; srun passes signals on to it.
"""

from __future__ import annotations

from foreshock.containers.errors import ImageError
from foreshock.containers.launch import ExecRequest, GpuKind, Launch, all_binds, inside_environment, matching_names
from foreshock.containers.runtimes.spec import Runtime

_EXPORT = "${FS_EXPORT}"


def compose(request: ExecRequest) -> Launch:
    """`srun --container-image`, one task on this node, beside the canary."""
    if not request.network:
        raise ImageError("pyxis cannot take the network away; use another runtime, or allow the network")
    if request.unpack:
        raise ImageError("enroot unpacks images by itself; leave `unpack` out of the profile's container")
    scratch = request.scratch.rstrip("/")
    nvidia = bool(request.gpus) and request.gpu_kind is GpuKind.NVIDIA
    inside = {
        "HOME": f"{scratch}/home",
        "NVIDIA_VISIBLE_DEVICES": "all" if nvidia else "void",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        **inside_environment(request),
    }
    binds = [bind.option() for bind in all_binds(request)]
    spaced = next((bind for bind in binds if any(mark.isspace() for mark in bind)), None)
    if spaced is not None:  # pyxis writes mounts as lines of an fstab
        raise ImageError(f"pyxis cannot mount a path with a space ({spaced}); use a path without")
    if request.gpus and request.gpu_kind is GpuKind.ROCM:
        binds += ["/dev/kfd:/dev/kfd:rw", "/dev/dri:/dev/dri:rw"]
    argv = ["srun", "--ntasks=1", "--nodes=1", "--overlap", "--cpus-per-task=${SLURM_CPUS_PER_TASK}"]
    argv += ["--kill-on-bad-exit=1", "--quiet", f"--export={_EXPORT}", f"--container-env={_EXPORT}"]
    argv += [f"--container-image={request.image}", "--container-mounts=" + ",".join(binds)]
    argv += [f"--container-workdir={request.working_directory or scratch}", "--no-container-mount-home"]
    argv += ["--no-container-entrypoint", *request.command]
    names = ",".join(inside)
    return Launch.of(
        request,
        tuple(argv),
        inside,
        setup=(
            'unset "${!PYXIS_@}"',  # a name, a writable container, other mounts: options of the submitter's shell
            f"FS_EXPORT={names}$({matching_names(request.pass_through)} | sed 's/^/,/' | tr -d '\\n')",
            'export SLURM_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',
        ),
    )


PYXIS = Runtime(
    name="pyxis",
    summary="pyxis and enroot, through srun",
    program="srun",
    images="a .sqsh file, or what enroot imports: registry#name:tag",
    takes_files=True,
    takes_names=True,
    can_unpack=False,
    gpus=("nvidia", "rocm"),
    compose=compose,
    verify=None,
)
