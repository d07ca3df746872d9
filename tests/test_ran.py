"""What a process says of where it runs, and how that is told from what was planned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock import image_contents, image_record, ran
from foreshock.image_record import ImageIdentity
from foreshock.ran import Planned, Ran, RanImage, deviations, measure, measure_image

IMAGE = RanImage({"variant": "gpu"}, "content-sha256:c", None, "/i.sif", "sha256:f", None)
RAN = Ran("a" * 40, "code", IMAGE, {"torch": "2.13.0", "vllm": None}, "3.12.3", ("H200",), "580.1", "6.1", "x86_64")
PLANNED = Planned("a" * 40, "code", ImageIdentity("sha256:f", "content-sha256:c"))


def test_what_was_planned_is_no_deviation() -> None:
    assert deviations(PLANNED, RAN) == []
    assert deviations(Planned(None), replace(RAN, image=None)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"commit": "b" * 40},
            "computed by commit bbbbbbbbbbbb, the run was planned by aaaaaaaaaaaa, with the same source",
        ),
        ({"commit": "a" * 40 + "+changed", "code_sha256": "x"}, "computed by commit aaaaaaaaaaaa+changed"),
        ({"image": replace(IMAGE, content=None, file_sha256=None, problem="damaged")}, "nothing is known (damaged)"),
        ({"code_sha256": "x"}, "computed by other source files than the run was planned by"),
        (
            {"commit": None, "code_sha256": "x"},
            "other source files than the run was planned by, at a commit that is not known",
        ),
        ({"image": None}, "computed in no image, planned for sha256:f"),
        (
            {"image": replace(IMAGE, file_sha256="sha256:g", verified=True)},
            "another file of the same contents (sha256:g",
        ),
        ({"image": replace(IMAGE, file_sha256="sha256:g", problem="?")}, "which could not be verified: ?"),
        (
            {"image": replace(IMAGE, file_sha256="sha256:g", verified=False, problem="/usr/bin/x changed")},
            "not as it was built: /usr/bin/x changed",
        ),
        (
            {"image": replace(IMAGE, file_sha256="sha256:g", content="content-sha256:d")},
            "in image sha256:g, planned for",
        ),
    ],
)
def test_every_other_code_and_image_is_told(changes: dict[str, object], said: str) -> None:
    found = deviations(PLANNED, replace(RAN, **changes))  # type: ignore[arg-type]  # fields by name
    assert len(found) == 1
    assert said in found[0]


def test_a_file_beside_the_code_that_git_does_not_know_is_no_other_code() -> None:
    assert deviations(PLANNED, replace(RAN, commit="a" * 40 + "+changed")) == []


def test_an_image_that_the_plan_does_not_name_is_told() -> None:
    unplanned = replace(PLANNED, image=ImageIdentity())
    assert "that the plan does not name" in deviations(unplanned, RAN)[0]
    nameless = replace(RAN, image=RanImage(None, None, None, "/i.sif", None, None))
    assert "of which nothing is known: it has no record" in deviations(unplanned, nameless)[0]


def test_code_is_measured_when_the_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(ran, "running_commit", lambda: looked.append("commit"))
    monkeypatch.setattr(ran, "code_sha256", lambda: looked.append("code"))
    ran.Recorder(Planned(None))  # hours before the first shard is sealed, and before anybody's `git pull`
    assert looked == ["commit", "code"]


@given(st.sampled_from(["commit", "code_sha256", "kernel", "driver", "sandbox_tier"]), st.text(min_size=1, max_size=8))
def test_a_record_is_named_by_all_that_it_says_and_read_back_whole(name: str, value: str) -> None:
    other = replace(RAN, **{name: value + "!"})  # type: ignore[arg-type]  # a field by name
    assert other.key != RAN.key
    assert Ran.from_json(json.loads(json.dumps(other.to_json()))) == other


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system that is an image's, around this process, and the image's file."""
    folder, root = tmp_path / "image", tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    folder.mkdir()
    (root / "usr" / "tool").write_text("one")
    (folder / "image.json").write_text('{"variant": "cpu", "git_commit": "abc-dirty"}')
    image_contents.write(folder, root)
    (tmp_path / "f.sif").write_bytes(b"image")
    monkeypatch.setattr(ran, "own_record", lambda: json.loads((folder / "image.json").read_text()))
    monkeypatch.setattr(ran, "differences", lambda: image_contents.differences(folder, root))
    monkeypatch.setenv("FORESHOCK_IMAGE_FILE", str(tmp_path / "f.sif"))
    return tmp_path


def test_one_byte_of_the_file_makes_the_worker_look_at_what_it_holds(inside: Path) -> None:
    first = measure_image(ImageIdentity())
    assert first is not None
    assert first.verified is None  # nothing to compare with
    planned = ImageIdentity(first.digest, first.content)
    assert measure_image(planned) == first  # the planned file: nothing more to read
    (inside / "f.sif").write_bytes(b"imagf")
    signed = measure_image(planned)
    assert signed is not None
    assert signed.verified is True
    assert "another file of the same contents" in deviations(Planned(None, None, planned), measure(signed))[0]
    (inside / "root" / "usr" / "tool").write_text("two")
    damaged = measure_image(planned)
    assert damaged is not None
    assert damaged.problem == "/usr/tool changed"


def test_a_file_out_of_sight_is_null_with_the_reason_and_contents_are_measured(inside: Path) -> None:
    known = measure_image(ImageIdentity())
    assert known is not None
    (inside / "f.sif").unlink()
    found = measure_image(ImageIdentity(known.digest, known.content))
    assert found is not None
    assert (found.file_sha256, found.verified, found.digest) == (None, True, known.content)
    assert deviations(Planned(None, None, ImageIdentity(known.digest, known.content)), measure(found)) == []
    unplanned = measure_image(ImageIdentity())
    assert unplanned is not None
    assert "cannot be read from inside" in str(unplanned.problem)
    by_hand = ImageIdentity(None, known.content)  # planned inside, where the file was out of sight, too
    (inside / "root" / "usr" / "tool").write_text("two")
    damaged = measure_image(by_hand)
    assert damaged is not None
    assert "not as it was built: /usr/tool changed" in deviations(Planned(None, None, by_hand), measure(damaged))[0]


@pytest.mark.parametrize(("text", "problem"), [("{", "damaged"), ("[]", "damaged"), ('{"content": 7}', "names no")])
def test_a_damaged_record_is_told_and_is_no_bare_machine(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_record, "IMAGE_FOLDER", tmp_path)
    (tmp_path / "image.json").write_text(text)
    found = measure_image(ImageIdentity(None, "content-sha256:c"))
    assert found is not None
    assert problem in deviations(Planned(None, None, ImageIdentity(None, "content-sha256:c")), measure(found))[0]


def test_a_job_submitted_from_inside_an_image_does_not_claim_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/i.sif")
    assert image_record.own_file() is None  # this machine's root is no image of Apptainer's
    monkeypatch.setattr(image_record, "_INSIDE", Path("/usr"))
    monkeypatch.setenv("FORESHOCK_IMAGE_FILE", "/other.sif")
    assert image_record.own_file() == Path("/i.sif")  # as the runtime says, whatever is exported


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ("H200", "L4")),
        ("1,0", ("L4", "H200")),
        ("1", ("L4",)),
        ("0,-1,1", ("H200",)),  # what follows a number that is none is hidden
        ("7", ()),
        ("0,0", ()),
        ("NoDevFiles", ()),
        ("", ()),
        ("GPU-a", ("H200",)),
        ("GPU-aa, GPU-zz, GPU-bb", ("H200",)),
        ("MIG-11", ("MIG 1g.18gb Device 0: (UUID: MIG-11)",)),
    ],
)
def test_gpus_are_those_that_cuda_shows(
    listed: str | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = ["0, GPU-aa, H200", "1, GPU-bb, L4"]
    slices = ["GPU 0: NVIDIA H200 (UUID: GPU-aa)", "  MIG 1g.18gb Device 0: (UUID: MIG-11)"]
    monkeypatch.setattr(ran, "_lines", lambda *argv: slices if "-L" in argv else cards)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert ran.visible_gpus.__wrapped__() == names
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    if listed == "1":  # CUDA counts by speed then, nvidia-smi by slot
        assert ran.visible_gpus.__wrapped__() == ("H200 or L4",)


def test_amds_gpus_are_those_that_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["GPU[0]\t: Card Series: MI300X", "GPU[1]\t: Card Series: MI250", "GPU[1]\t: Card Model: 0x1"]
    monkeypatch.setattr(ran, "_lines", lambda *argv: lines if argv[0] == "rocm-smi" else [])
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1")
    assert ran.visible_gpus.__wrapped__() == ("MI250",)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    assert ran.visible_gpus.__wrapped__() == ("MI250",)
