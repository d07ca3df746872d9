"""Signing images and checking signatures: a SIF with Apptainer's keyring or a PEM key, an OCI image with cosign."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from foreshock.containers.engines import look
from foreshock.containers.errors import ImageError
from foreshock.containers.identity import require_signature
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.containers.sif import is_sif, is_signed


def sign_image(image: str, key: str | None = None) -> str:
    """Sign; returns what to tell. The contents keep their digest, the file of a SIF gets another. Raises ImageError."""
    _require_there(image)
    if is_sif(Path(image)):
        if is_signed(Path(image)):
            raise ImageError(f"{image} is signed already; check it: foreshock image verify {image}")
        if key is not None and not Path(key).is_file():
            raise ImageError(f"no private key at {key}; leave --key out to sign with a key of Apptainer's keyring")
        with_key = ("--key", key) if key else ()
        advice = f"is {key} a private key as PEM?" if key else "make a key pair first: apptainer key newpair"
        _run((look().flavour.value, "sign", *with_key, image), advice)
        return f"signed {image}; its file has another digest now, its contents the same"
    if Path(image).exists():
        raise ImageError(f"{image} is no SIF: only SIF files and images in a registry are signed")
    if key is None:
        raise ImageError("give cosign's private key: --key cosign.key (cosign generate-key-pair makes a pair)")
    if shutil.which("cosign") is None:
        raise ImageError("cosign is not on PATH; OCI images are signed with it")
    _run(("cosign", "sign", "--yes", "--key", key, image), "is the image in a registry, under this name and digest?")
    return f"signed {image}"


def verify_image(image: str, runtime: str | None = None, key: str | None = None) -> str:
    """Check a signature; returns what to tell. Raises ImageError if it does not hold."""
    _require_there(image)
    if runtime is None:
        runtime = look().flavour.value if Path(image).exists() else "podman"
    if key is None and not RUNTIMES.get(runtime).takes_files:
        raise ImageError("an OCI image's signature is checked with cosign and a public key: --key cosign.pub")
    require_signature(image, runtime, key)
    return f"{image} is signed" + (f" with {key}" if key else " by a key of your keyring")


def _require_there(image: str) -> None:
    if not image or ((image.startswith(("/", ".")) or image.endswith(".sif")) and not Path(image).exists()):
        raise ImageError(f"no image at {image!r}; build one: foreshock image build --output IMAGE.sif")


def _run(argv: tuple[str, ...], advice: str) -> None:
    """With the terminal, since a passphrase may be asked for."""
    try:
        code = subprocess.run(argv, check=False).returncode
    except OSError as error:
        raise ImageError(f"{argv[0]}: {error.strerror}; install it first") from None
    if code != 0:
        raise ImageError(f"`{' '.join(argv)}` ended with exit code {code}; {advice}")
