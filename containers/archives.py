"""Images as archives (`podman save`, `docker save`, `oci-archive:`): the id that they have once they are loaded."""

from __future__ import annotations

import json
import lzma
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

from foreshock.containers.errors import ImageError

_PREFIX = re.compile(r"(?:oci|docker)-archive:([^:]+)(?::.*)?")
_DIGEST = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?")


def archive_path(image: str) -> Path | None:
    """The file of an image that is named as an archive or is one; None for anything else."""
    named = _PREFIX.fullmatch(image)
    path = Path(named[1] if named else image)
    return path if named or (path.is_file() and tarfile.is_tarfile(path)) else None


def archive_id(path: Path) -> str:
    """`sha256:...` of the image in an archive: the digest of its configuration. Raises ImageError."""
    try:
        with tarfile.open(path) as tar:
            names = tar.getnames()
            if "manifest.json" in names:
                images = _document(tar, "manifest.json")
                configs = [str(image["Config"]) for image in images]
            elif "index.json" in names:
                manifests = [str(one["digest"]) for one in _document(tar, "index.json")["manifests"]]
                configs = [str(_document(tar, _blob(one))["config"]["digest"]) for one in manifests]
            else:
                raise ImageError(
                    f"{path} is a tar, but no image: it has neither manifest.json nor index.json; of a root "
                    f"filesystem an image is built: foreshock image build --base {path}"
                )
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise ImageError(f"{path} is no archive of an image: {type(error).__name__}: {error}") from None
    if len(configs) != 1:
        raise ImageError(f"{path} holds {len(configs)} images; save one of them alone")
    found = _DIGEST.fullmatch(configs[0])
    if found is None:
        raise ImageError(f"{path} names its configuration {configs[0]!r}, which is no digest")
    return f"sha256:{found[1]}"


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _document(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return json.loads(file.read())
