"""Build the images: which commands, in which order.

Planning is pure and running is dumb. A plan is a list of steps with their arguments, so every combination of builder,
base and source can be tested on a machine that has none of them; whatever a builder says is shown, kept in a log, and
explained when it is a known failure.

The context is a copy of the files that git knows (or would add), so a build does not depend on what else lies in the
checkout, and Dockerfile and apptainer.def see the same files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from foreshock.containers.digest import image_file_digest
from foreshock.containers.engines import Engine, ImageKind, Machine
from foreshock.containers.errors import ImageError, explain
from foreshock.containers.inside import read_inside
from foreshock.containers.launch import Flavour
from foreshock.containers.lock import LockName, lock_path, read_lock
from foreshock.containers.pins import Variant, read_pins
from foreshock.containers.sif import normalise
from foreshock.image_record import IMAGE_FOLDER, SBOM

NEEDED_BYTES = {Variant.CPU: 8 * 10**9, Variant.GPU: 45 * 10**9}
"""Free space that a build needs at its peak: the packages once unpacked and once in a layer, and the result."""


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
        return _plan_oci(request, machine)
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


def _plan_oci(request: BuildRequest, machine: Machine) -> list[Step]:
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
    return steps


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
    if not machine.is_root and not machine.has_subordinate_ids and request.engine is not Engine.DOCKER:
        warnings.append(
            "this user has no subordinate ids (/etc/subuid, /etc/subgid); if the build fails for lack of them, ask "
            "for: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
        )
    if request.wheels is not None and request.engine is Engine.BUILDAH and not machine.can_drop_network:
        warnings.append("this user cannot make a network namespace, so the build could still reach the network")
    return warnings


def run_plan(steps: list[Step], log: Path, base: str, say: Callable[[str], None]) -> None:
    """Run the steps, output to `log`. Raises ImageError with the last lines and, where known, what to do."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="foreshock-home-") as home,
        log.open("w", encoding="utf-8", errors="replace") as file,
    ):
        for step in steps:
            if step.unless is not None and _succeeds(step.unless):
                continue
            say(step.what)
            file.write(f"$ {' '.join(step.argv)}\n")
            file.flush()
            try:
                done = subprocess.run(
                    step.argv,
                    cwd=step.cwd,
                    env=None if step.epoch is None else clean_environment(os.environ, home, step.epoch),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            except OSError as error:
                missing = shutil.which(step.argv[0]) is None  # an unreadable folder on PATH says "permission denied"
                reason = "not found on PATH; is it installed?" if missing else error.strerror
                raise ImageError(f"{step.argv[0]}: {reason}") from None
            if done.returncode != 0:
                raise failure(step, done.returncode, log.read_text(encoding="utf-8", errors="replace"), log, base)


_KEPT = (
    "PATH",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DOCKER_CONFIG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_KEPT_KINDS = ("APPTAINER_", "SINGULARITY_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def clean_environment(environment: Mapping[str, str], home: str, epoch: int) -> dict[str, str]:
    """What Apptainer is started with. The user's PYTHONPATH, PIP_* and home directory must not reach a build; its cache
    and keys stay where they are."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in _KEPT or name.startswith(_KEPT_KINDS) or name.lower() in _PROXIES
    }
    kept = {name: value for name, value in kept.items() if not name.startswith(("APPTAINERENV_", "SINGULARITYENV_"))}
    own = Path(environment.get("HOME") or "/")
    kept.setdefault("APPTAINER_CACHEDIR", str(own / ".apptainer" / "cache"))
    kept.setdefault("APPTAINER_CONFIGDIR", str(own / ".apptainer"))
    return {**kept, "HOME": home, "SOURCE_DATE_EPOCH": str(epoch)}


def _succeeds(argv: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def failure(step: Step, code: int, output: str, log: Path, base: str) -> ImageError:
    """The error for a step that failed: its last lines, the explanation, where the rest is."""
    tail = "\n".join(f"  | {line}" for line in output.strip().splitlines()[-8:])
    meaning = explain(output, base)
    explanation = f"\n{meaning[0].upper()}{meaning[1:]}." if meaning else ""
    return ImageError(f"{step.what} failed with exit code {code}:\n{tail}{explanation}\nFull output: {log}")


def stage_context(source: Path, target: Path) -> None:
    """Copy the files that git tracks or would add; symbolic links stay links. Without git: .dockerignore's folders."""
    git = ("git", "-C", str(source), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    try:
        listed = subprocess.run(git, capture_output=True, check=False)
        names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    except OSError:
        names = []
    if not any(names):
        names = [
            p.relative_to(source).as_posix()
            for top in _allowed(source)
            for p in ([source / top] if (source / top).is_file() else sorted((source / top).rglob("*")))
            if (p.is_file() or p.is_symlink()) and "__pycache__" not in p.parts
        ]
    allowed = set(_allowed(source))
    for name in names:
        path = source / name
        if name.partition("/")[0] not in allowed or not (path.is_symlink() or path.is_file()):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target / name, follow_symlinks=False)
        if not path.is_symlink():  # a checkout's modes follow its owner's umask, an image's must not
            (target / name).chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir() and not path.is_symlink())):
        folder.chmod(0o755)


def _allowed(source: Path) -> list[str]:
    """Top-level names that images are made of: the exceptions of .dockerignore."""
    lines = (source / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line[1:] for line in lines if line.startswith("!") and (source / line[1:]).exists()]


def find_source(given: Path | None) -> Path:
    """The checkout to build from: given, or the one this package lies in. Raises ImageError."""
    places = [given] if given is not None else list(Path(__file__).resolve().parents)
    for place in places:
        if (place / "Dockerfile").is_file() and (place / "apptainer.def").is_file():
            return place
    raise ImageError("no Dockerfile and apptainer.def found; images are built from a checkout: give --source FOLDER")


def git_commit(source: Path) -> str:
    """The commit, with `-dirty` if files differ; `unknown` outside a repository."""
    try:
        argv = ("git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def build(request: BuildRequest, machine: Machine, say: Callable[[str], None], log: Path) -> str:
    """Build an image and return its digest (SIF) or its name (OCI). `request.context` is the checkout."""
    with tempfile.TemporaryDirectory(prefix="foreshock-image-") as folder:
        scratch = Path(folder)
        for warning in check_request(request, machine, scratch):
            say(f"warning: {warning}")
        context = scratch / "context"
        stage_context(request.context, context)
        (context / "base").mkdir()
        if request.pip_config is not None and request.kind is ImageKind.SIF:
            # Copied in with the sources and removed with them; a Dockerfile has secrets for this.
            shutil.copy2(request.pip_config, context / "containers" / "pip.conf")
        staged = replace(request, context=context)
        try:
            run_plan(plan(staged, machine, scratch), log, request.base, say)
        finally:
            _make_removable(scratch)
    if request.kind is ImageKind.OCI:
        beside = log.with_name(f"{log.name.removesuffix('-build.log')}.spdx.json")
        _write_sbom(request.output, beside, machine, say, request.engine)
        return request.output
    normalise(Path(request.output), request.epoch)
    digest = image_file_digest(Path(request.output))
    record = Path(f"{request.output}.sha256")
    record.write_text(f"{digest.removeprefix('sha256:')}  {Path(request.output).name}\n", encoding="utf-8")
    _write_sbom(request.output, Path(f"{request.output}.spdx.json"), machine, say)
    return digest


def _write_sbom(
    image: str, target: Path, machine: Machine, say: Callable[[str], None], engine: Engine | None = None
) -> None:
    """The bill of materials beside the image, as it lies in it."""
    try:
        with tempfile.TemporaryDirectory(prefix="foreshock-look-") as scratch:
            text = read_inside(image, str(IMAGE_FOLDER / SBOM), machine, Path(scratch), engine)
    except ImageError as error:  # the image is there, and cannot be started here
        problem = " ".join(line.strip(" |") for line in str(error).splitlines()[:3])
        say(f"warning: no bill of materials beside it: {problem}; later: foreshock image sbom {image}")
        return
    target.write_text(text, encoding="utf-8")


def _make_removable(folder: Path) -> None:
    """Unpacked root filesystems hold folders that their owner may not write; let the cleanup delete them."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink() and not os.access(path, os.W_OK):
            path.chmod(0o700)


def default_base(variant: Variant) -> str:
    """The pinned base."""
    return read_pins().images[variant].base


def source_date_epoch(environment: Mapping[str, str]) -> int:
    """Seconds since 1970 that a build takes for now: SOURCE_DATE_EPOCH, else the pinned one. Raises ImageError."""
    given = environment.get("SOURCE_DATE_EPOCH")
    if not given:
        return read_pins().epoch
    if not (given.isascii() and given.isdigit()):
        raise ImageError(f"SOURCE_DATE_EPOCH is {given!r}; valid: whole seconds since 1970, such as 1767225600")
    return int(given)


def lock_sha256(variant: Variant, source: Path) -> str:
    """Digest of the lock that the checkout's image installs."""
    return read_lock(lock_path(LockName(variant.value), source / "containers" / "locks")).sha256
