"""What a process runs in, measured from inside, and how it differs from what was planned.

Nothing here is passed in by whoever started the process but the place of the image's file and, of an image that is no
file, its id as the runtime told it on the node. What cannot be measured is null, with a reason where there is one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import threading
from dataclasses import asdict, dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from foreshock.code_version import code_sha256, running_commit
from foreshock.image_contents import differences, in_words
from foreshock.image_record import IMAGE_ID, ImageIdentity, own_file, own_record, record_problem

_PACKAGES = ("torch", "vllm", "transformers")


@dataclass(frozen=True, slots=True)
class RanImage:
    """The image a process runs in.

    record: its image.json, null for somebody else's image. content: the digest of what it holds, baked in at build;
    verified: whether its files were held against it, and were as listed (null: not looked); `problem`: what was not.
    file, file_sha256: the SIF or squashfs file and its digest, read by this very process; id: of an image without one.
    """

    record: dict[str, Any] | None
    content: str | None
    verified: bool | None
    file: str | None
    file_sha256: str | None
    id: str | None
    problem: str | None = None

    @property
    def digest(self) -> str | None:
        """What manifests call the image: of its file, else its id, else of its contents."""
        return self.file_sha256 or self.id or self.content


@dataclass(frozen=True, slots=True)
class Ran:
    """Everything measured: code, image, packages (null: not installed), GPUs by name, drivers, kernel, sandbox tier.

    sandbox_tier is null where no code was run.
    """

    commit: str | None
    code_sha256: str
    image: RanImage | None
    packages: dict[str, str | None]
    python: str
    gpus: tuple[str, ...]
    driver: str | None
    kernel: str
    machine: str
    sandbox_tier: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same for the same place: it is filed under its digest."""
        return asdict(self) | {"gpus": list(self.gpus)}

    @property
    def key(self) -> str:
        """Name of its record: 16 digits of the digest of its contents."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ran:
        """Raises TypeError or KeyError for anything else."""
        image = data["image"]
        return cls(**data | {"image": None if image is None else RanImage(**image), "gpus": tuple(data["gpus"])})


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan expects its workers to be; null is not known."""

    commit: str | None
    code_sha256: str | None = None
    image: ImageIdentity = field(default_factory=ImageIdentity)


def deviations(planned: Planned, ran: Ran) -> list[str]:
    """How a worker differs from its plan, one sentence each; empty if it does not, as far as both are known."""
    return [found for found in (_other_code(planned, ran), _other_image(planned.image, ran.image)) if found]


def _other_code(planned: Planned, ran: Ran) -> str | None:
    same_code = planned.code_sha256 == ran.code_sha256 if planned.code_sha256 else None
    if same_code and _unchanged(planned.commit) == _unchanged(ran.commit):
        return None  # what differs from the commit is no code: documentation, files that git does not know
    if planned.commit and ran.commit and planned.commit != ran.commit:
        note = ", with the same source files" if same_code else ""
        return f"computed by commit {_short(ran.commit)}, the run was planned by {_short(planned.commit)}{note}"
    if same_code is False:
        at = f"at commit {_short(ran.commit)}" if ran.commit else "at a commit that is not known"
        return f"computed by other source files than the run was planned by, {at}"
    return None


def _other_image(planned: ImageIdentity, ran: RanImage | None) -> str | None:
    if ran is None:
        return f"computed in no image, planned for {planned.digest or planned.content}" if planned else None
    if ran.verified is False:
        return f"computed in an image that is not as it was built: {ran.problem}"
    if not planned:
        if ran.digest is None:
            return (
                f"computed in an image of which nothing is known: {ran.problem or 'it has no record of its contents'}"
            )
        return f"computed in an image ({ran.digest}) that the plan does not name"
    if planned.digest is not None and planned.digest in (ran.file_sha256, ran.id):
        return None
    if planned.content is not None and planned.content == ran.content:
        if ran.digest == ran.content and (planned.digest is None or ran.verified):
            return None  # no file to tell, as of a folder: what it holds was read
        return (
            f"computed in another file of the same contents ({ran.digest}, planned {planned.digest or planned.content})"
            + ("" if ran.verified else f", which could not be verified: {ran.problem}")
        )
    if ran.digest is None:
        return f"computed in an image of which nothing is known ({ran.problem}), planned for {planned.digest}"
    return f"computed in image {ran.digest}, planned for {planned.digest or planned.content}"


def _unchanged(commit: str | None) -> str | None:
    return None if commit is None else commit.removesuffix("+changed")


def _short(commit: str) -> str:
    name, changed, _ = commit.partition("+")
    return name[:12] + ("+changed" if changed else "")


class Recorder:
    """Measures once a process: the code at once, as it may be another by the end; the image's file is read by a thread
    while the model loads; the rest when asked for."""

    def __init__(self, planned: Planned) -> None:
        self._planned = planned
        running_commit(), code_sha256()  # both remember what they find
        self._image: RanImage | None = None
        self._thread = threading.Thread(target=self._look, name="foreshock-image", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        self._image = measure_image(self._planned.image)

    def ran(self, sandbox_tier: str | None = None) -> Ran:
        """Everything measured; waits for the image's digest."""
        self._thread.join()
        return measure(self._image, sandbox_tier)

    def deviations(self) -> list[str]:
        """How this process differs from its plan."""
        return deviations(self._planned, self.ran())


def measure(image: RanImage | None, sandbox_tier: str | None = None) -> Ran:
    """What this process runs in."""
    return Ran(
        commit=running_commit(),
        code_sha256=code_sha256(),
        image=image,
        packages=_versions(),
        python=platform.python_version(),
        gpus=visible_gpus(),
        driver=driver_version(),
        kernel=platform.release(),
        machine=platform.machine(),
        sandbox_tier=sandbox_tier,
    )


def measure_image(planned: ImageIdentity) -> RanImage | None:
    """The image around this process; None outside of any.

    What it holds is held against its list where it claims the planned contents and no file tells that it is the
    planned one: it is another (signed, rebuilt, damaged), out of sight, or a folder.
    """
    record, file, damage = own_record(), own_file(), record_problem()
    image_id = os.environ.get(IMAGE_ID) or None
    if record is None and file is None and image_id is None and damage is None:
        return None
    named = None if record is None else record.get("content")
    content = named if isinstance(named, str) else None
    digest, problem = _file_digest(file)
    problem = "; ".join(filter(None, (damage, problem))) or None
    told = digest or image_id
    verified = None
    if content is not None and content == planned.content and (told is None or told != planned.digest):
        verified, problem = _verify()
    return RanImage(record, content, verified, None if file is None else str(file), digest, image_id, problem)


def _file_digest(file: Path | None) -> tuple[str | None, str | None]:
    if file is None:
        return None, None
    if file.is_dir():
        return None, f"{file} is a folder"
    try:
        with file.open("rb") as opened:
            return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest(), None
    except OSError as error:
        return None, f"{file} cannot be read from inside ({error.strerror}); bind it"


def _verify() -> tuple[bool | None, str | None]:
    try:
        found = differences()
    except (OSError, ValueError) as error:
        return None, f"its list of contents cannot be read: {error}"
    return not found, in_words(found) if found else None


@functools.cache
def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            found[name] = None
    return found


@functools.cache
def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, asked of the driver's own tools: torch must not start CUDA here."""
    nvidia = _lines("nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader")
    if nvidia:
        rows = [[part.strip() for part in line.split(",", 2)] for line in nvidia]
        return _nvidia_names([row for row in rows if len(row) == 3], os.environ.get("CUDA_VISIBLE_DEVICES"))
    lines = _lines("rocm-smi", "--showproductname")
    names = [line.split(":", 2)[2].strip() for line in lines if "card series" in line.lower()]
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):  # the second counts what the first leaves
        listed = os.environ.get(variable)
        if listed is not None and "GPU-" not in listed:  # ids, which the list of names does not have
            names = [names[place] for place in _places(listed, len(names))]
    return tuple(names)


def _nvidia_names(cards: list[list[str]], listed: str | None) -> tuple[str, ...]:
    """Names of the cards (index, UUID, name) that CUDA shows for a value of CUDA_VISIBLE_DEVICES.

    Numbers follow CUDA's order, which is by speed unless CUDA_DEVICE_ORDER says otherwise: where a machine has several
    models, a number alone does not tell which one is meant.
    """
    names = [name for _, _, name in cards]
    if listed is None:
        return tuple(names)
    words = [word.strip() for word in listed.split(",")]
    if words[0].startswith("MIG-"):
        slices = _lines("nvidia-smi", "-L")
        return tuple(line.strip() for line in slices if any(word and word in line for word in words))
    if words[0].startswith("GPU-"):
        places = []
        for word in words:
            found = [place for place, card in enumerate(cards) if word.startswith("GPU-") and card[1].startswith(word)]
            if len(found) != 1:
                break
            places += found
        return tuple(names[place] for place in places)
    places = _places(listed, len(cards))
    several = len(set(names)) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and len(places) < len(cards)
    return tuple(" or ".join(sorted(set(names))) if several else names[place] for place in places)


def _places(listed: str, count: int) -> list[int]:
    """Devices that a list of numbers shows: what follows one that there is not is hidden, one named twice hides all."""
    places: list[int] = []
    for word in listed.split(","):
        text = word.strip()
        if not (text.isascii() and text.isdigit() and int(text) < count):
            break
        if int(text) in places:
            return []
        places.append(int(text))
    return places


def driver_version() -> str | None:
    """Version of the GPU driver that is loaded; None without one. /sys and /proc are the host's in containers too."""
    for path in ("/sys/module/nvidia/version", "/sys/module/amdgpu/version"):
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except OSError:
            continue
    return None


def _lines(*argv: str) -> list[str]:
    if shutil.which(argv[0]) is None:
        return []
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []
