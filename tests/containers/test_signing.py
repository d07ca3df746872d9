"""Signatures and headers of SIFs: what is asked of Apptainer, and of the files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from foreshock.containers.errors import ImageError
from foreshock.containers.identity import require_signature
from foreshock.containers.runtimes.registry import RUNTIMES
from foreshock.containers.sif import is_sif, is_signed, sif_objects
from foreshock.containers.signing import sign_image


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


def test_a_signed_sif_is_left_alone_and_not_signed_twice(tmp_path: Path) -> None:
    signed = make_sif(tmp_path / "s.sif", time=1, types=(0x4004, 0x4005))
    assert is_signed(signed)
    with pytest.raises(ImageError, match="is signed already; check it: foreshock image verify"):
        sign_image(str(signed))


def test_what_is_no_sif_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.sif").write_bytes(b"not one")
    assert not is_sif(tmp_path / "x.sif")
    assert not is_sif(tmp_path / "gone")
    with pytest.raises(ImageError, match="is not a SIF"):
        sif_objects(tmp_path / "x.sif")


@pytest.mark.parametrize(("code", "key"), [(0, None), (0, "k.pub"), (255, None)])
def test_the_signature_is_asked_of_the_runtime(
    code: int, key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "apptainer"
    program.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\necho "signature not found" >&2\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if code:
        with pytest.raises(
            ImageError, match=r"not signed as asked: signature not found; sign it with `foreshock image"
        ):
            require_signature("/i.sif", "apptainer", key)
    else:
        require_signature("/i.sif", "apptainer", key)
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["verify", *(["--key", "k.pub"] if key else ["--local"]), "/i.sif"]


def test_runtimes_without_a_check_refuse_the_wish() -> None:
    with pytest.raises(ImageError, match="pyxis cannot check signatures"):
        require_signature("/i.sqsh", "pyxis", None)
    verify = RUNTIMES.get("podman-hpc").verify
    assert verify is not None
    assert verify("reg/foreshock@sha256:1", "k.pub") == ("cosign", "verify", "--key", "k.pub", "reg/foreshock@sha256:1")
    with pytest.raises(ImageError, match="set `key`"):
        verify("foreshock", None)
