"""Build the images: run the steps of a plan, whatever they are.

Whatever a builder says is shown, kept in a log, and explained when it is a known failure.

The context is a copy of the files that git knows (or would add), so a build does not depend on what else lies in the
checkout, and Dockerfile and apptainer.def see the same files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from foreshock.code_version import GIT
from foreshock.containers.build_plan import UNKNOWN, BuildRequest, Step, check_request, plan
from foreshock.containers.digest import image_file_digest
from foreshock.containers.engines import Engine, ImageKind, Machine
from foreshock.containers.errors import ImageError, explain
from foreshock.containers.inside import read_inside
from foreshock.containers.lock import LockName, lock_path, read_lock
from foreshock.containers.pins import Variant, read_pins
from foreshock.containers.sif import normalise
from foreshock.image_record import IMAGE_FOLDER, SBOM


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
    git = (*GIT, "-C", str(source), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
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
        argv = (*GIT, "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*")
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return UNKNOWN
    return done.stdout.strip() if done.returncode == 0 else UNKNOWN


def build(request: BuildRequest, machine: Machine, say: Callable[[str], None], log: Path) -> str:
    """Build an image and return its digest (SIF) or its name (OCI). `request.context` is the checkout."""
    with tempfile.TemporaryDirectory(prefix="foreshock-image-") as folder:
        scratch = Path(folder)
        for warning in check_request(request, machine, scratch):
            say(f"warning: {warning}")
        context = scratch / "context"
        if request.from_oci is None:
            stage_context(request.context, context)
        (context / "base").mkdir(parents=True, exist_ok=True)
        if request.pip_config is not None and request.kind is ImageKind.SIF:
            # Copied in with the sources and removed with them; a Dockerfile has secrets for this.
            shutil.copy2(request.pip_config, context / "containers" / "pip.conf")
        staged = replace(request, context=context)
        try:
            run_plan(plan(staged, machine, scratch), log, request.from_oci or request.base, say)
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


def dry_run(request: BuildRequest, machine: Machine) -> list[str]:
    """The commands of a build as shell; CONTEXT is the copy of the sources. Raises ImageError as a build does."""
    scratch = Path(tempfile.gettempdir())
    warnings = [f"# warning: {text}" for text in check_request(request, machine, scratch)]
    steps = plan(replace(request, context=Path("CONTEXT")), machine, Path("SCRATCH"))
    lines = [
        f"{shlex.join(step.unless)} || {shlex.join(step.argv)}" if step.unless else shlex.join(step.argv)
        for step in steps
    ]
    return [
        *warnings,
        *(line if step.cwd is None else f"cd {step.cwd} && {line}" for step, line in zip(steps, lines, strict=True)),
    ]


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
