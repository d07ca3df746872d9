"""What the names of an adapter's tensors say: factors of a module of its base, or a tensor that replaces one of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.adapter_config import AdapterError, is_set

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?$")
_WRAPPERS = re.compile(r"\.(modules_to_save(\.default)?|base_layer|original_module)\.")


@dataclass(frozen=True, slots=True)
class Place:
    """`name`: a module of the base where `side` is A or B, else the tensor that is replaced."""

    name: str
    side: str | None = None
    embedding: bool = False


def places(keys: Iterable[str], file: Path) -> dict[str, Place]:
    """Where each tensor of an adapter's file belongs.

    Raises AdapterError for one that is no plain factor, and for two that belong in one place: which of them the trained
    model has is not said.
    """
    found: dict[str, Place] = {}
    holders: dict[Place, str] = {}
    for key in keys:
        place = _place(key, file)
        other = holders.setdefault(place, key)
        if other != key:
            raise AdapterError(f"tensors {other!r} and {key!r} belong in one place, {place.name}", path=file)
        found[key] = place
    return found


def _place(key: str, file: Path) -> Place:
    name = key.removeprefix(_PREFIX)
    factor = _FACTOR.match(name)
    if factor is not None:
        return Place(factor["module"], factor["side"], factor["embedding"] is not None)
    if "lora_" in name:
        raise AdapterError(f"tensor {key!r} is not a plain LoRA factor", path=file)
    return Place(_WRAPPERS.sub(".", name))


def targeted(config: Mapping[str, Any], modules: Iterable[str]) -> Iterator[str]:
    """Those of the base's modules that an adapter_config.json names, as peft reads it; all where it names none."""
    left_out = config.get("exclude_modules")
    for module in modules:
        if _is_wanted(config, module) and not (is_set(left_out) and _is_named(left_out, module)):
            yield module


def _is_wanted(config: Mapping[str, Any], module: str) -> bool:
    wanted: Any = config.get("target_modules")
    if not is_set(wanted) or wanted == "all-linear":
        return True
    whole = isinstance(wanted, str) or module in wanted  # peft asks for its layer where a name's end is given
    return _is_named(wanted, module) and (whole or _in_layers(config, module))


def _is_named(patterns: Any, module: str) -> bool:
    if isinstance(patterns, str):
        return re.fullmatch(patterns, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in patterns)


def _in_layers(config: Mapping[str, Any], module: str) -> bool:
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == []:
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    named = (re.match(rf".*\.{p}\.(\d+)\.", module) for p in ([patterns] if isinstance(patterns, str) else patterns))
    layer = next((int(found[1]) for found in named if found is not None), None)
    return layer in (wanted if isinstance(wanted, list) else [wanted])
