"""A LoRA adapter folded into its base: W + scale * B A, for engines that serve full models only.

A merge is exact or refused. Every tensor of the adapter must find its place in the base, sums are taken in float32
and rounded once to the base's type, and a tensor left over is an error, because an adapter applied in part is a model
that nobody trained.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from foreshock.jobs.adapters import Adapter, AdapterError
from foreshock.jobs.fingerprint import check_checkpoint

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?$")
_TOKENIZER_NAMES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")


@dataclass
class Delta:
    """What an adapter does to one module: both factors."""

    embedding: bool = False
    factors: dict[str, torch.Tensor] = field(default_factory=dict)


def merged_tensors(adapter: Adapter) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's tensors by name with the adapter folded in, one at a time.

    Raises AdapterError for adapter tensors that have no place in the base, after the last tensor.
    """
    deltas, replaced = _read(adapter)
    for file in check_checkpoint(adapter.base):
        if file.suffix != ".safetensors":
            raise AdapterError(
                f"{file.name} is not a safetensors file; only such bases can be merged", path=adapter.base
            )
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.offset_keys():
                weight = tensors.get_tensor(name)
                module = name.removesuffix(".weight")
                if name in replaced:
                    yield name, _same_shape(adapter, name, replaced.pop(name), weight).to(weight.dtype)
                elif module in deltas:
                    yield name, _add(adapter, module, deltas.pop(module), weight)
                else:
                    yield name, weight
    left = sorted([*deltas, *replaced])
    if left:
        raise AdapterError(
            f"{len(left)} modules have no place in the base {adapter.base}, first {left[0]!r}; "
            "the adapter was trained on another model",
            path=adapter.path,
        )


def write_merged(adapter: Adapter, folder: Path) -> Path:
    """A full checkpoint in `folder`: the base's configuration, the adapter's tokenizer, merged weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in (adapter.base, adapter.path):  # the adapter's own tokenizer wins
        for file in source.iterdir():
            if file.is_file() and file.name.startswith(_TOKENIZER_NAMES):
                shutil.copy2(file, folder / file.name)
    for name in ("config.json", "generation_config.json"):
        if (adapter.base / name).is_file():
            shutil.copy2(adapter.base / name, folder / name)
    save_file(
        {name: tensor.contiguous() for name, tensor in merged_tensors(adapter)},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def _read(adapter: Adapter) -> tuple[dict[str, Delta], dict[str, torch.Tensor]]:
    """Factors by base module, and tensors that replace the base's."""
    (file, *more) = check_checkpoint(adapter.path)
    if more or file.suffix != ".safetensors":
        raise AdapterError("expected one adapter_model.safetensors", path=adapter.path)
    deltas: dict[str, Delta] = {}
    replaced: dict[str, torch.Tensor] = {}
    with safe_open(file, framework="pt") as tensors:
        for key in tensors.offset_keys():
            name = key.removeprefix(_PREFIX)
            found = _FACTOR.match(name)
            if found is not None:
                delta = deltas.setdefault(found["module"], Delta(embedding="lora_embedding" in name))
                delta.factors[found["side"]] = tensors.get_tensor(key)
            elif "lora_" in name:
                raise AdapterError(f"tensor {key!r} is not a plain LoRA factor", path=file)
            else:
                replaced[re.sub(r"\.(modules_to_save(\.default)?|base_layer)\.", ".", name)] = tensors.get_tensor(key)
    for module, delta in deltas.items():
        if set(delta.factors) != {"A", "B"}:
            raise AdapterError(f"module {module!r} has only factor {'/'.join(delta.factors)}", path=file)
    return deltas, replaced


def _add(adapter: Adapter, module: str, delta: Delta, weight: torch.Tensor) -> torch.Tensor:
    """weight + scale * B A in float32, rounded to the weight's type. A: [r, in], B: [out, r]."""
    change = (delta.factors["B"].float() @ delta.factors["A"].float()) * adapter.scale(module)
    if adapter.fan_in_fan_out or delta.embedding:  # stored [in, out]; embeddings are [vocab, hidden]
        change = change.T
    return (weight.float() + _same_shape(adapter, module, change, weight)).to(weight.dtype)


def _same_shape(adapter: Adapter, name: str, tensor: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    if tensor.shape != base.shape:
        raise AdapterError(
            f"{name!r} has shape {list(tensor.shape)}, the base's {list(base.shape)}; "
            "the adapter was trained on another model",
            path=adapter.path,
        )
    return tensor
