"""What a build is: the commands, in order, and what is refused before an hour is spent on it.

Planning is pure: every combination of builder, base and source can be tested on a machine that has none of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from foreshock.containers.engines import Engine, ImageKind, Machine
from foreshock.containers.errors import ImageError
from foreshock.containers.launch import Flavour
from foreshock.containers.pins import Variant

NEEDED_BYTES = {Variant.CPU: 8 * 10**9, Variant.GPU: 45 * 10**9}
"""Free space that a build needs at its peak: the packages once unpacked and once in a layer, and the result."""
UNKNOWN = "unknown"
"""What an image's record and labels say for a commit that git did not tell."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. `base` is an image name, a tar of a root filesystem, or (SIF only) such a folder."""

    variant: Variant
    kind: ImageKind
    engine: Engine
    output: str
    context: Path
    base: str
    git_commit: str
    lock_sha256: str
    wheels: Path | None = None
    djinn: Path | None = None
    pip_config: Path | None = None
    target: str | None = None
    from_oci: str | None = None
    epoch: int = 0
    licences: str = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class Step:
    """One command. `cwd` matters to apptainer, whose %files are relative to it; `unless` succeeds where it is done.

    With an `epoch` it sees of the caller's environment only what a builder needs, since Apptainer hands that on into
    the build, and SOURCE_DATE_EPOCH.
    """

    what: str
    argv: tuple[str, ...]
    cwd: Path | None = None
    unless: tuple[str, ...] | None = None
    epoch: int | None = None


def plan(request: BuildRequest, machine: Machine, scratch: Path) -> list[Step]:
    """The commands of a build, in order."""
    if request.kind is ImageKind.OCI:
        return _plan_oci(request, machine, scratch)
    if request.from_oci is not None:
        return _plan_conversion(request, machine, scratch)
    return _plan_sif(request, machine, scratch)


def _is_tar(base: str) -> bool:
    return base.endswith((".tar", ".tar.gz", ".tar.xz"))


def _local_base_name(base: str, epoch: int) -> str:
    """A name for a local base that says what is in it and the time it is imported with: images record it, and no layer
    cache can confuse two."""
    with Path(base).open("rb") as file:
        return f"localhost/foreshock-base:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}-{epoch}"


def _plan_oci(request: BuildRequest, machine: Machine, scratch: Path) -> list[Step]:
    engine = request.engine.value
    steps = []
    base = request.base
    if _is_tar(base):
        name = _local_base_name(base, request.epoch)
        # Imported again it would be another image to the builder's layer cache, and everything would be built anew.
        done = (engine, "inspect", "--type", "image", name)
        if request.engine is Engine.BUILDAH:
            # Without a name buildah picks one, which the next command could not know.
            holder = name.rpartition(":")[2] + "-import"
            commit = (engine, "commit", "--quiet", "--timestamp", str(request.epoch))
            steps += [
                Step("import the base", (engine, "from", "--name", holder, "scratch"), unless=done),
                Step("import the base", (engine, "add", "--quiet", holder, base, "/"), unless=done),
                Step("import the base", (*commit, "--rm", holder, name), unless=done),
            ]
        else:
            steps.append(Step("import the base", (engine, "import", base, name), unless=done))
        base = name
    offline = request.wheels is not None
    argv: list[str] = []
    if request.engine is Engine.BUILDAH:
        if offline and machine.can_drop_network:
            argv += ["unshare", "--net"]
        argv += ["buildah", "build", "--layers"]
        if "BUILDAH_ISOLATION" not in os.environ:
            argv += ["--isolation", "chroot"]  # works without an OCI runtime, hence also inside containers
    else:
        argv += [engine, "build"]
        if offline:
            argv += ["--network", "none"]
    if request.engine is not Engine.DOCKER:
        argv += ["--timestamp", str(request.epoch)]  # of the image and of every file in its layers
    base_argument = "CUDA_BASE_IMAGE" if request.variant is Variant.GPU else "BASE_IMAGE"
    arguments = {
        base_argument: base,
        "GIT_COMMIT": request.git_commit,
        "LOCK_SHA256": request.lock_sha256,
        "SOURCE_DATE_EPOCH": str(request.epoch),  # BuildKit takes the image's time from it
    }
    for name, value in arguments.items():
        argv += ["--build-arg", f"{name}={value}"]
    for name, folder in (("wheels", request.wheels), ("djinn", request.djinn)):
        if folder is not None:
            argv += ["--build-context", f"{name}={folder}"]
    if request.pip_config is not None:
        argv += ["--secret", f"id=pipconf,src={request.pip_config}"]
    target = request.target or ("cuda" if request.variant is Variant.GPU else "cpu")
    argv += ["--target", target, "--tag", request.output, "--file", str(request.context / "Dockerfile")]
    steps.append(Step(f"build {target}", (*argv, str(request.context))))
    return steps + (_without_history(request, scratch) if request.engine is Engine.BUILDAH else [])


def _without_history(request: BuildRequest, scratch: Path) -> list[Step]:
    """The image again, on the same layers, without the history that is part of its id: a cached layer keeps there the
    name that its base had when it was made. (`build --omit-history` leaves it out too, and the layer cache with it.)

    The annotations, of which buildah makes two, name the image that this one was made from, history and all. They are
    part of the manifest and so of the digest that a registry has it under."""
    holder = scratch.name + "-history"
    commit = ("buildah", "commit", "--quiet", "--omit-history", "--timestamp", str(request.epoch))
    return [
        Step("leave the history out", ("buildah", "from", "--pull=never", "--name", holder, request.output)),
        Step("leave the history out", ("buildah", "config", "--annotation", "-", holder)),
        Step("leave the history out", (*commit, "--rm", holder, request.output)),
    ]


def _plan_sif(request: BuildRequest, machine: Machine, scratch: Path) -> list[Step]:
    steps = []
    bootstrap, base, name_of_base = "docker", request.base, request.base
    if _is_tar(base) or Path(base).is_dir():
        bootstrap = "localimage"
        if _is_tar(base):
            # Below the context and named from there: the definition is part of the image, and no path of this machine.
            folder = request.context / "base"
            # Device nodes cannot be made without root, and Apptainer brings its own.
            unpack = ("tar", "--extract", "--no-same-owner", "--exclude=./dev/*", "--directory", str(folder))
            steps.append(Step("unpack the base", (*unpack, "--file", base)))
            base, name_of_base = folder.name, _local_base_name(base, request.epoch)
    argv = [*_sif_builder(machine), "--force"]
    # Destinations exist in every base: an unprivileged build cannot make mount points.
    for folder_or_none, inside in ((request.wheels, "/mnt"), (request.djinn, "/srv")):
        if folder_or_none is not None:
            argv += ["--bind", f"{folder_or_none}:{inside}:ro"]
    arguments = {
        "VARIANT": request.variant.value,
        "BOOTSTRAP": bootstrap,
        "FROM": base,
        "BASE": name_of_base,
        "GIT_COMMIT": request.git_commit,
        "LOCK_SHA256": request.lock_sha256,
        "LICENCES": request.licences,
        "EPOCH": str(request.epoch),
        "BUILD_DATE": datetime.fromtimestamp(request.epoch, UTC).isoformat(),
    }
    for name, value in arguments.items():
        argv += ["--build-arg", f"{name}={value}"]
    output = str(Path(request.output).absolute())
    steps.append(Step("build the SIF", (*argv, output, "apptainer.def"), cwd=request.context, epoch=request.epoch))
    return steps


def _plan_conversion(request: BuildRequest, machine: Machine, scratch: Path) -> list[Step]:
    archive = scratch / "image.tar"
    image = request.from_oci or ""
    if request.engine is Engine.BUILDAH:
        save: tuple[str, ...] = ("buildah", "push", "--quiet", image, f"docker-archive:{archive}:{_tagged(image)}")
    elif request.engine is Engine.PODMAN:
        save = ("podman", "save", "--format", "docker-archive", "--output", str(archive), image)
    else:
        save = ("docker", "save", "--output", str(archive), image)
    output = str(Path(request.output).absolute())
    convert = (*_sif_builder(machine), "--force", output, f"docker-archive:{archive.name}")
    return [
        Step("save the image as a docker-archive", save),
        Step("convert it to a SIF", convert, cwd=scratch, epoch=request.epoch),
    ]


def _sif_builder(machine: Machine) -> tuple[str, ...]:
    """zstd packs several times faster than the default gzip and unpacks faster; Linux mounts it since 4.14."""
    packing = ("--mksquashfs-args", "-comp zstd -Xcompression-level 6") if machine.flavour is Flavour.APPTAINER else ()
    return (machine.flavour.value, "build", *packing)


def _tagged(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def check_request(request: BuildRequest, machine: Machine, scratch: Path) -> list[str]:
    """Refuse what cannot work before an hour is spent on it; returns warnings. Raises ImageError."""
    local = _is_tar(request.base) or request.base.startswith(("/", "."))
    if local and not Path(request.base).exists():
        raise ImageError(f"base {request.base} does not exist; make one: containers/ci/base.sh {request.base}")
    if Path(request.base).is_dir() and request.kind is ImageKind.OCI:
        raise ImageError(
            f"base {request.base} is a folder; {request.engine.value} needs a tar: tar -C DIR -cf base.tar ."
        )
    if Path(request.base).is_dir() and not any((Path(request.base) / name).exists() for name in ("usr", "bin")):
        raise ImageError(
            f"base {request.base} is a folder, but no root filesystem; containers/ci/base.sh makes a tar of one"
        )
    for what, path in (("--wheels", request.wheels), ("--djinn", request.djinn), ("--pip-config", request.pip_config)):
        if path is not None and not path.exists():
            raise ImageError(f"{what} {path} does not exist; see foreshock image build --help")
    if request.wheels is not None and not any(request.wheels.glob("*.whl")):
        raise ImageError(
            f"--wheels {request.wheels} holds no wheels; fill it: "
            f"containers/ci/wheelhouse.sh {request.variant.value} {request.wheels}"
        )
    if request.djinn is not None and not (request.djinn / "pyproject.toml").is_file():
        raise ImageError(
            f"--djinn {request.djinn} is not a checkout of djinn; run containers/ci/djinn.sh {request.djinn}"
        )
    free = shutil.disk_usage(scratch).free
    needed = NEEDED_BYTES[request.variant]
    if free < needed:
        raise ImageError(
            f"{free / 1e9:.1f} GB free at {scratch}, a {request.variant.value} image needs {needed / 1e9:.0f} GB while "
            "it is built; free space or set TMPDIR to a larger disk"
        )
    warnings = []
    if request.from_oci is None and request.git_commit == UNKNOWN:
        warnings.append(
            f"git knows no commit of {request.context.absolute()}, so neither will the image, and it is another file "
            "than one built from a clone; for one that others can compare, build from a git clone"
        )
    if not machine.is_root and not machine.has_subordinate_ids and request.engine is not Engine.DOCKER:
        warnings.append(
            "this user has no subordinate ids (/etc/subuid, /etc/subgid); if the build fails for lack of them, ask "
            "for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
        )
    if request.wheels is not None and request.engine is Engine.BUILDAH and not machine.can_drop_network:
        warnings.append("this user cannot make a network namespace, so the build could still reach the network")
    return warnings
