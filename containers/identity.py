"""Which image a plan is made for: the digest of its file, and of what it holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from foreshock.containers.digest import image_file_digest
from foreshock.containers.engines import Engine, look
from foreshock.containers.errors import ImageError
from foreshock.containers.inside import read_inside
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.containers.sif import is_sif, is_signed
from foreshock.image_record import IMAGE_FOLDER, RECORD, ImageIdentity

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://|(docker-archive|docker-daemon|oci-archive|oci|containers-storage|dir):")
"""What a runtime fetches or unpacks, and no file or name of its own."""
_OCI = (Engine.PODMAN, Engine.DOCKER, Engine.BUILDAH)


def image_identity(image: str, runtime: str) -> ImageIdentity:
    """The identity of a profile's image as far as it can be seen from here; empty where it cannot."""
    facts = RUNTIMES.get(runtime)
    path = Path(image)
    if facts.takes_files:
        if not path.exists():
            return ImageIdentity()
        return ImageIdentity(image_file_digest(path), file_content(path.absolute()))
    try:
        return ImageIdentity(oci_id(image, facts.program), None)
    except ImageError:
        return ImageIdentity()


def require_image_name(image: str, runtime: str) -> None:
    """Raise ImageError for an image that the runtime does not take, or that every node could take for another one."""
    facts = RUNTIMES.get(runtime)
    absolute = image.startswith(("/", "${"))
    is_path = absolute or image.startswith((".", "~", "$")) or image.endswith((".sif", ".sqsh", ".img"))
    scheme = _SCHEME.match(image)
    if facts.takes_files and not facts.takes_names and scheme is not None:
        raise ImageError(
            f"container.image is {image}, which every node would fetch for itself; {facts.name} takes {facts.images}: "
            f"make the file once with `{facts.program} build IMAGE.sif {image}` and name that"
        )
    if facts.takes_files and (is_path or not facts.takes_names) and not absolute:
        raise ImageError(f"container.image {image!r} is not an absolute path; give it from the root, as nodes see it")
    if not facts.takes_files and (is_path or scheme is not None):
        raise ImageError(
            f"container.image is {image}; {facts.name} takes {facts.images}: load it there (podman load) and name it"
        )


def file_content(image: Path) -> str | None:
    """`content-sha256:...` of a SIF or a sandbox folder, from the record in it; None where it has none or nothing here
    can look inside."""
    try:
        return content_of(str(image))
    except ImageError:
        return None


def content_of(image: str) -> str:
    """`content-sha256:...` of any image here. Raises ImageError with the reason where it cannot be told."""
    if Path(image).is_dir():
        try:
            text = (Path(image) / IMAGE_FOLDER.relative_to("/") / RECORD).read_text(encoding="utf-8")
        except OSError as error:
            raise ImageError(
                f"{image} is a folder without {IMAGE_FOLDER / RECORD} ({error.strerror}): no image of foreshock's"
            ) from None
    else:
        with tempfile.TemporaryDirectory(prefix="foreshock-look-") as scratch:
            text = read_inside(image, str(IMAGE_FOLDER / RECORD), look(), Path(scratch))
    found = _content(text)
    if found is None:
        raise ImageError(f"{IMAGE_FOLDER / RECORD} in {image} names no contents: damaged, or of an older foreshock")
    return found


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
    if facts.takes_files and Path(image).is_dir():
        raise ImageError(
            f"{image} is a folder: only SIF files are signed; make one: {facts.program} build IMAGE.sif {image}"
        )
    if facts.takes_files and key is not None and not Path(key).is_file():
        raise ImageError(f"no public key at {key}; give the PEM file of the key that signed {image}")
    argv = facts.verify(image, key)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False, env=dict(os.environ))
    except OSError as error:
        raise ImageError(f"{argv[0]}: {error.strerror}; it is needed to check the signature of {image}") from None
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if line.strip()]
        said = lines[-1].strip() if lines else "the check failed"
        if facts.takes_files and is_sif(Path(image)) and is_signed(Path(image)):
            raise ImageError(
                f"{image} has a signature that does not hold: {said}; it was changed since, or another key signed: get "
                "the image again, or the public key that signed it (--key FILE, or: apptainer key import FILE)"
            )
        raise ImageError(
            f"{image} is not signed as asked: {said}; sign it with `foreshock image sign {image}`, or leave `verify` "
            "out of the profile's container"
        )


def _content(text: str) -> str | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    content = record.get("content") if isinstance(record, dict) else None
    return content if isinstance(content, str) else None
