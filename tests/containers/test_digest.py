"""Image identity: bytes decide, and a cached answer never outlives them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from foreshock.containers.archives import archive_id, archive_path
from foreshock.containers.digest import image_file_digest
from foreshock.containers.errors import ImageError
from foreshock.containers.identity import changed_image
from foreshock.image_record import ImageIdentity


def test_a_sifs_digest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    image = tmp_path / "a.sif"
    image.write_bytes(b"image" * 1000)
    expected = "sha256:" + hashlib.sha256(b"image" * 1000).hexdigest()
    assert image_file_digest(image, tmp_path / "cache.json") == expected


def test_a_second_look_reads_the_cache_and_a_write_does_not(tmp_path: Path) -> None:
    image, cache = tmp_path / "a.sif", tmp_path / "c" / "cache.json"
    image.write_bytes(b"one")
    first = image_file_digest(image, cache)
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps(dict.fromkeys(known, "f" * 64)))
    assert image_file_digest(image, cache) == "sha256:" + "f" * 64
    image.write_bytes(b"two")  # same name and size
    second = image_file_digest(image, cache)
    assert second == "sha256:" + hashlib.sha256(b"two").hexdigest() != first


@pytest.mark.parametrize("damage", ["", "{", "[1]"])
def test_a_damaged_cache_only_costs_time(tmp_path: Path, damage: str) -> None:
    image, cache = tmp_path / "a.sif", tmp_path / "cache.json"
    image.write_bytes(b"one")
    cache.write_text(damage)
    assert image_file_digest(image, cache) == "sha256:" + hashlib.sha256(b"one").hexdigest()


def save(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_an_archives_id_is_that_of_the_image_in_it(tmp_path: Path) -> None:
    config, manifest = "c" * 64, json.dumps({"config": {"digest": "sha256:" + "c" * 64}}).encode()
    blob = hashlib.sha256(manifest).hexdigest()
    index = json.dumps({"manifests": [{"digest": f"sha256:{blob}"}]}).encode()
    saved = [
        {"manifest.json": json.dumps([{"Config": f"{config}.json"}]).encode()},
        {"manifest.json": json.dumps([{"Config": f"blobs/sha256/{config}"}]).encode()},
        {"index.json": index, f"blobs/sha256/{blob}": manifest},
    ]
    for number, files in enumerate(saved):
        path = save(tmp_path / f"{number}.tar", files)
        for image in (str(path), f"oci-archive:{path}:latest"):
            archive = archive_path(image)
            assert archive == path
            assert archive_id(archive) == f"sha256:{config}"
    for files, said in (
        ({"usr/bin/sh": b""}, "is a tar, but no image"),
        ({"manifest.json": b"[]"}, "holds 0 images"),
        ({"manifest.json": b"[{}]"}, "no archive of an image: KeyError"),
        ({"manifest.json": b"{"}, "no archive of an image"),
    ):
        with pytest.raises(ImageError, match=said):
            archive_id(save(tmp_path / "bad.tar", files))
    assert archive_path("localhost/foreshock:cpu") is None


def test_an_unwritable_cache_is_no_error(tmp_path: Path) -> None:
    image = tmp_path / "a.sif"
    image.write_bytes(b"one")
    (tmp_path / "file").write_text("")
    assert image_file_digest(image, tmp_path / "file" / "cache.json").startswith("sha256:")


def test_a_sandbox_digest_covers_content_names_modes_and_links(tmp_path: Path) -> None:
    box = tmp_path / "box"
    (box / "bin").mkdir(parents=True)
    (box / "bin" / "tool").write_text("a")
    (box / "link").symlink_to("bin/tool")
    seen = [image_file_digest(box)]
    assert image_file_digest(box) == seen[0]
    (box / "bin" / "tool").write_text("b")
    seen.append(image_file_digest(box))
    (box / "bin" / "tool").chmod(0o755)
    seen.append(image_file_digest(box))
    (box / "link").unlink()
    (box / "link").symlink_to("bin")
    seen.append(image_file_digest(box))
    (box / "bin" / "tool").rename(box / "bin" / "other")
    seen.append(image_file_digest(box))
    assert len(set(seen)) == 5
    assert all(digest.startswith("sandbox-sha256:") for digest in seen)


def test_no_image_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image at .*missing\.sif .*build one: foreshock image build"):
        image_file_digest(tmp_path / "missing.sif")


def test_a_resume_on_another_image_says_so() -> None:
    first, second = ImageIdentity("sha256:a", "content-sha256:x"), ImageIdentity("sha256:b", "content-sha256:y")
    assert changed_image(first, first) is None
    assert changed_image(ImageIdentity(), ImageIdentity()) is None
    assert changed_image(first, ImageIdentity("sha256:signed", "content-sha256:x")) is None
    said = changed_image(first, second)
    assert said is not None
    assert "began in sha256:a and goes on in sha256:b" in said
    assert "no image" in str(changed_image(first, ImageIdentity()))
