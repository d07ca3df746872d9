"""The one way to a container's command line: a request is checked, and the runtime that it names composes it."""

from __future__ import annotations

from pathlib import PurePosixPath

from foreshock.containers.errors import ImageError
from foreshock.containers.launch import VARIABLE_NAME, ExecRequest, Launch
from foreshock.containers.runtimes.registry import RUNTIMES


def compose(request: ExecRequest) -> Launch:
    """The command line of a request in its runtime.

    Raises ImageError for an empty command, a negative number of GPUs, a relative path, a name that is not one of an
    environment variable, or what the runtime cannot do; InputError for an unknown runtime.
    """
    runtime = RUNTIMES.get(request.runtime)
    _validate(request)
    if request.gpus and request.gpu_kind.value not in runtime.gpus:
        raise ImageError(f"{runtime.name} brings in no {request.gpu_kind.value} GPUs; valid: {', '.join(runtime.gpus)}")
    return runtime.compose(request)


def _validate(request: ExecRequest) -> None:
    if not request.command:
        raise ImageError("no command to run in the image; give at least one word, such as foreshock")
    if request.gpus < 0:
        raise ImageError(f"gpus is {request.gpus}; valid: 0 or more")
    for what, path in (("scratch", request.scratch), ("working directory", request.working_directory)):
        if path is not None and not path.startswith(("/", "${")):
            raise ImageError(f"{what} {path!r} is not an absolute path; give it from the root")
    if not PurePosixPath(request.image).name or request.image.startswith("-"):
        raise ImageError(f"{request.image!r} is not an image; give a .sif file or a sandbox folder")
    for name in request.environment:
        if not VARIABLE_NAME.fullmatch(name):
            raise ImageError(f"{name!r} is not the name of an environment variable; correct the profile")
        if name == "HOME":
            raise ImageError("HOME cannot be set in the container: it is the folder 'home' in scratch")
