"""Signatures and headers of SIFs: what is asked of Apptainer, and what is fixed so that builds agree."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from foreshock.containers.errors import ImageError
from foreshock.containers.identity import require_signature
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.containers.sbom import debian_packages, document, python_package
from foreshock.containers.sif import is_sif, is_signed, normalise, sif_objects
from foreshock.containers.signing import sign_image, verify_image


def make_sif(path: Path, *, time: int, types: tuple[int, ...] = (0x4004,)) -> Path:
    """A file with the header and descriptors of a SIF, and data of ten bytes an object."""
    header = b"#!/usr/bin/env run-singularity\n\0" + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + bytes([time % 251] * 16)
    table, data = b"", b""
    for number, kind in enumerate(types, start=1):
        at = 4096 + len(data)
        table += struct.pack("<i?III", kind, True, number, 0xF0000001, 0)
        table += struct.pack("<7q", at, 10, 10, time, time, 1000, 1000) + bytes(128 + 384)
        data += b"0123456789"
    header += struct.pack("<8q", time, time, 0, len(types), 128, len(table), 4096, len(data))
    path.write_bytes((header + table).ljust(4096, b"\0") + data)
    return path


def test_two_builds_headers_become_the_same(tmp_path: Path) -> None:
    one, two = make_sif(tmp_path / "1.sif", time=1700000000), make_sif(tmp_path / "2.sif", time=1800000000)
    assert one.read_bytes() != two.read_bytes()
    for path in (one, two):
        normalise(path, 42)
    assert one.read_bytes() == two.read_bytes()
    assert [(part.offset, part.size) for part in sif_objects(one)] == [(4096, 10)]
    assert one.read_bytes()[4096:] == b"0123456789"


def test_a_signed_sif_is_left_alone_and_not_signed_twice(tmp_path: Path) -> None:
    signed = make_sif(tmp_path / "s.sif", time=1, types=(0x4004, 0x4005))
    assert is_signed(signed)
    with pytest.raises(ImageError, match="is signed; a change would break the signature"):
        normalise(signed, 42)
    with pytest.raises(ImageError, match="is signed already; check it: foreshock image verify"):
        sign_image(str(signed))


def test_what_is_no_sif_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.sif").write_bytes(b"not one")
    assert not is_sif(tmp_path / "x.sif")
    assert not is_sif(tmp_path / "gone")
    with pytest.raises(ImageError, match="is not a SIF"):
        sif_objects(tmp_path / "x.sif")


@pytest.mark.parametrize(("code", "key"), [(0, None), (0, "k.pub"), (255, None)])  # the key: a file in tmp_path
def test_the_signature_is_asked_of_the_runtime(
    code: int, key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "apptainer"
    program.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\necho "signature not found" >&2\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if key is not None:
        key = str(tmp_path / key)
        Path(key).write_text("PEM")
    if code:
        with pytest.raises(
            ImageError, match=r"not signed as asked: signature not found; sign it with `foreshock image"
        ):
            require_signature("/i.sif", "apptainer", key)
    else:
        require_signature("/i.sif", "apptainer", key)
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["verify", *(["--key", key] if key else ["--local"]), "/i.sif"]


def test_a_broken_signature_is_not_answered_with_advice_to_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apptainer").write_text("#!/bin/sh\necho integrity compromised >&2\nexit 255\n")
    (tmp_path / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    signed = make_sif(tmp_path / "s.sif", time=1, types=(0x4004, 0x4005))
    with pytest.raises(ImageError, match=r"does not hold: integrity compromised; .* get the image again"):
        require_signature(str(signed), "apptainer", None)


def test_what_cannot_be_signed_or_checked_is_told_with_its_own_reason(tmp_path: Path) -> None:
    sif = str(make_sif(tmp_path / "s.sif", time=1))
    for image, key, said in (
        (str(tmp_path / "gone.sif"), None, "no image at"),
        ("", None, "no image at ''"),
        (str(tmp_path), None, "only SIF files"),
        (sif, str(tmp_path / "gone.pem"), "key at"),
    ):
        for act in (lambda: sign_image(image, key), lambda: verify_image(image, "apptainer", key)):  # noqa: B023 - at once
            with pytest.raises(ImageError, match=said):
                act()
    with pytest.raises(ImageError, match="public key: --key"):
        verify_image("reg/foreshock:1")


def test_runtimes_without_a_check_refuse_the_wish() -> None:
    with pytest.raises(ImageError, match="pyxis cannot check signatures"):
        require_signature("/i.sqsh", "pyxis", None)
    verify = RUNTIMES.get("podman-hpc").verify
    assert verify is not None
    assert verify("reg/foreshock@sha256:1", "k.pub") == ("cosign", "verify", "--key", "k.pub", "reg/foreshock@sha256:1")
    with pytest.raises(ImageError, match="set `key`"):
        verify("foreshock", None)


def test_a_bill_of_materials_is_spdx_and_the_same_every_time() -> None:
    listing = "libc6\t2.36-9\tamd64\tinstalled\ngone\t1\tall\tconfig-files\n"
    packages = [python_package("Typing_Extensions", "4.1", "PSF-2.0"), *debian_packages(listing)]
    record = {"variant": "cpu", "content": "content-sha256:ab", "git_commit": "c", "base": "b", "djinn_commit": None}
    made = document(record, packages, 0)
    assert made == document(record, reversed(packages), 0)
    assert made["spdxVersion"] == "SPDX-2.3"
    assert made["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    assert [package["name"] for package in made["packages"]] == ["libc6", "typing-extensions"]
    purls = [package["externalRefs"][0]["referenceLocator"] for package in made["packages"]]
    assert purls == ["pkg:deb/libc6@2.36-9?arch=amd64", "pkg:pypi/typing-extensions@4.1"]
