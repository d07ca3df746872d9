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
_FILES = (IMAGE_FILE, "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


@dataclass(frozen=True, slots=True)
class ImageIdentity:
    """An image as a plan names it; false for none. digest: of its file or folder, or its id. content: what it holds."""

    digest: str | None = None
    content: str | None = None

    def __bool__(self) -> bool:
        return self.digest is not None or self.content is not None


def own_record(folder: Path | None = None) -> dict[str, Any] | None:
    """`image.json` of the image that this process runs in; None outside of foreshock's images."""
    try:
        record = json.loads(((folder or IMAGE_FOLDER) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def own_file() -> Path | None:
    """The file that this process's container was started from, as the launcher or the runtime names it."""
    named = next((os.environ[name] for name in _FILES if os.environ.get(name)), None)
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
