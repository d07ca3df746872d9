"""The record that every image of foreshock carries: what it was built from, and a digest of what it holds."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE_FOLDER = Path("/usr/local/foreshock/image")
APP_FOLDER = Path("/usr/local/foreshock/app")
RECORD = "image.json"
CONTENTS = "contents.txt"
SBOM = "sbom.spdx.json"
IMAGE_FILE = "FORESHOCK_IMAGE_FILE"
"""Variable in which a launcher names the image's file as it is seen inside."""
IMAGE_ID = "FORESHOCK_IMAGE_ID"
"""Variable in which a launcher hands over the id of an image that is no file, as the runtime told it on the node."""
_APPTAINERS = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
"""Names of the image's file that Apptainer and SingularityCE set inside. A job submitted from inside inherits them."""
_INSIDE = Path("/.singularity.d")
"""What both put into every image."""


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """An image as a plan names it; false for none. digest: of its file or folder, or its id. content: what it holds."""

    digest: str | None = None
    content: str | None = None

    def __bool__(self) -> bool:
        return self.digest is not None or self.content is not None


def own_record(folder: Path | None = None) -> dict[str, Any] | None:
    """`image.json` of the image that this process runs in; None outside of foreshock's images, or damaged."""
    try:
        record = json.loads(((folder or IMAGE_FOLDER) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def record_problem(folder: Path | None = None) -> str | None:
    """Why `own_record` is None although there is a file, or names no contents; None otherwise."""
    path = (folder or IMAGE_FOLDER) / RECORD
    if not path.exists():
        return None
    record = own_record(folder)
    if record is None:
        return f"{path} is damaged"
    return None if isinstance(record.get("content"), str) else f"{path} names no contents"


def own_file() -> Path | None:
    """The file that this process's container was started from, as the runtime or else the launcher names it.

    The runtime's variables count only inside one of its containers, since a job on a bare node may have inherited them;
    there they go first, since the launcher's could have been inherited, too.
    """
    names = (*(_APPTAINERS if _INSIDE.is_dir() else ()), IMAGE_FILE)
    named = next((os.environ[name] for name in names if os.environ.get(name)), None)
    return None if named is None else Path(named)


def runs_own_code(folder: Path | None = None) -> bool:
    """Whether this process's foreshock is the image's own, and not one that was bound or installed over it."""
    return Path(__file__).resolve().is_relative_to(folder or APP_FOLDER)


def commit_of(record: dict[str, Any] | None) -> str | None:
    """The commit that an image was built from, `+changed` where files differed; None if nobody knew."""
    said = None if record is None else record.get("git_commit")
    if not isinstance(said, str) or not said or said == "unknown":
        return None
    return said.removesuffix("-dirty") + ("+changed" if said.endswith("-dirty") else "")
