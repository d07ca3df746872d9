"""The images' pins, read from `pins.toml`: the one place where a version or a digest is written.

The file is data, not code, because shell, Dockerfile tests and the image itself read it too.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

PINS = Path(__file__).parent / "pins.toml"
LOCKS = Path(__file__).parent / "locks"


class Variant(StrEnum):
    """Which image. Values are the names of Dockerfile targets' lock files."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class Djinn:
    """The problems package, always from a pinned commit."""

    distribution: str
    repository: str
    commit: str


@dataclass(frozen=True, slots=True)
class CpuTorch:
    """Accepted hashes of the CPU wheel, and what it requires (the index describes only the CUDA wheel)."""

    sha256: tuple[str, ...]
    requires: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagePins:
    """One image's pins. `driver_floor`, `cuda` and `vllm` are None without a GPU."""

    variant: Variant
    base: str
    python: str
    platform: str
    extras: tuple[str, ...]
    packages: tuple[str, ...]
    licences: str
    constraints: tuple[str, ...]
    vllm: str | None
    cuda: str | None
    driver_floor: str | None


@dataclass(frozen=True, slots=True)
class Pins:
    """Everything in `pins.toml`."""

    uv: str
    uv_sha256: tuple[str, ...]
    epoch: int
    torch: str
    transformers: str
    djinn: Djinn
    cpu_torch: CpuTorch
    test_extras: tuple[str, ...]
    images: dict[Variant, ImagePins]


def read_pins(path: Path = PINS) -> Pins:
    """Pins of this checkout, or of the image that `path` lies in."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    images = {
        variant: ImagePins(
            variant=variant,
            base=table["base"],
            python=table["python"],
            platform=table["platform"],
            extras=tuple(table["extras"]),
            packages=tuple(table.get("packages", ())),
            licences=table["licences"],
            constraints=tuple(table.get("constraints", ())),
            vllm=table.get("vllm"),
            cuda=table.get("cuda"),
            driver_floor=table.get("driver_floor"),
        )
        for variant in Variant
        for table in [data[variant.value]]
    }
    cpu_torch = data["cpu"]["torch"]
    return Pins(
        uv=data["python"]["uv"],
        uv_sha256=tuple(data["python"]["uv_sha256"]),
        epoch=data["common"]["epoch"],
        torch=data["common"]["torch"],
        transformers=data["common"]["transformers"],
        djinn=Djinn(**data["djinn"]),
        cpu_torch=CpuTorch(tuple(cpu_torch["sha256"]), tuple(cpu_torch["requires"])),
        test_extras=tuple(data["test"]["extras"]),
        images=images,
    )


def parse_version(text: str) -> tuple[int, ...]:
    """`580.65.06` as integers, for ordering. Raises ValueError naming the text."""
    try:
        return tuple(int(part) for part in text.strip().split("."))
    except ValueError:
        raise ValueError(f"{text!r} is not a dotted version number such as 580.65.06") from None
