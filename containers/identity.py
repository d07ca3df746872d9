"""Which image a plan is made for: the digest of its file, and of what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from foreshock.containers.digest import image_file_digest
from foreshock.containers.engines import Engine, look
from foreshock.containers.errors import ImageError
from foreshock.containers.inside import read_inside
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.image_record import IMAGE_FOLDER, RECORD, ImageIdentity

_OCI = (Engine.PODMAN, Engine.DOCKER, Engine.BUILDAH)


def image_identity(image: str, runtime: str) -> ImageIdentity:
    """The identity of a profile's image as far as it can be seen from here; empty where it cannot."""
    facts = RUNTIMES.get(runtime)
    path = Path(image)
    if facts.takes_files:
        if not path.exists():
            return ImageIdentity()
        return ImageIdentity(image_file_digest(path), file_content(path))
    try:
        return ImageIdentity(oci_id(image, facts.program), None)
    except ImageError:
        return ImageIdentity()


def file_content(image: Path) -> str | None:
    """`content-sha256:...` of a SIF or a sandbox folder, from the record in it; None where it has none or nothing here
    can look inside."""
    if image.is_dir():
        try:
            text = (image / IMAGE_FOLDER.relative_to("/") / RECORD).read_text(encoding="utf-8")
        except OSError:
            return None
    else:
        try:
            with tempfile.TemporaryDirectory(prefix="foreshock-look-") as scratch:
                text = read_inside(str(image.absolute()), str(IMAGE_FOLDER / RECORD), look(), Path(scratch))
        except (ImageError, OSError):
            return None
    return _content(text)


def oci_content(image: str) -> str | None:
    """The same of an OCI image, with whichever program here runs it."""
    try:
        with tempfile.TemporaryDirectory(prefix="foreshock-look-") as scratch:
            return _content(read_inside(image, str(IMAGE_FOLDER / RECORD), look(), Path(scratch)))
    except (ImageError, OSError):
        return None


def oci_id(image: str, program: str | None = None) -> str:
    """The id of an OCI image: the digest of its configuration and, through it, of its layers. Raises ImageError."""
    programs = [program] if program else [engine.value for engine in _OCI if engine in look().engines]
    told = "docker, podman and buildah are all missing"
    for name in programs:
        template = "{{.FromImageID}}" if name == Engine.BUILDAH.value else "{{.Id}}"
        argv = [name, "inspect", "--type", "image", "--format", template, image]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            told = f"{name}: {error}"
            continue
        if done.returncode == 0 and done.stdout.strip():
            return "sha256:" + done.stdout.strip().removeprefix("sha256:")
        told = (done.stderr.strip().splitlines() or [f"{name} says nothing"])[-1]
    raise ImageError(f"no image {image}: {told}; give a .sif file, a sandbox folder, or the name of an OCI image here")


def changed_image(recorded: ImageIdentity, current: ImageIdentity) -> str | None:
    """One sentence if a run goes on under another image than it began with; None if it does not."""
    if recorded.digest == current.digest or (recorded.content is not None and recorded.content == current.content):
        return None
    before = recorded.digest or "no image"
    after = current.digest or "no image"
    return (
        f"this run began in {before} and goes on in {after}: finished shards stay as they are, new ones record the "
        f"new image; to keep to one, run again with the first image"
    )


def require_signature(image: str, runtime: str, key: str | None) -> None:
    """Raise ImageError unless the image is signed, and by `key` if one is given."""
    facts = RUNTIMES.get(runtime)
    if facts.verify is None:
        raise ImageError(f"{facts.name} cannot check signatures; leave `verify` out of the profile's container")
    argv = facts.verify(image, key)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False, env=dict(os.environ))
    except OSError as error:
        raise ImageError(f"{argv[0]}: {error.strerror}; it is needed to check the signature of {image}") from None
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if line.strip()]
        raise ImageError(
            f"{image} is not signed as asked: {lines[-1].strip() if lines else 'the check failed'}; sign it with "
            f"`foreshock image sign {image}`, or leave `verify` out of the profile's container"
        )


def _content(text: str) -> str | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    content = record.get("content") if isinstance(record, dict) else None
    return content if isinstance(content, str) else None
