"""A LoRA adapter folded into its base: W + scale * B A, for engines that serve full models only.

A merge is exact or refused. Every tensor of the adapter must find its place in the base, sums are taken in float32 and
rounded once, and a tensor left over is an error: an adapter applied in part is a model that nobody trained.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from foreshock.jobs.model_files.adapter_config import MERGE, AdapterError
from foreshock.jobs.model_files.adapter_tensors import places
from foreshock.jobs.model_files.adapters import Adapter
from foreshock.jobs.model_files.fingerprint import check_weights, read_config
from foreshock.jobs.model_files.quantisation import states_weights
from foreshock.jobs.model_files.ties import Ties, is_embedding, is_output, read_ties

_CONV1D = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Models whose linear layers store [in, out]."""

_TOKENIZER_NAMES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template")


@dataclass
class Delta:
    """What an adapter does to one module: both factors."""

    embedding: bool = False
    factors: dict[str, torch.Tensor] = field(default_factory=dict)


def merged_tensors(adapter: Adapter, dtype: torch.dtype | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's tensors by name with the adapter folded in, one at a time; those it changes in `dtype`, by default the
    base's own.

    Raises AdapterError for a base that is quantised, for an adapter that unties what the base ties, and, after the last
    tensor, for adapter tensors that have no place in the base.
    """
    config = read_config(adapter.base / "config.json")
    if states_weights(config, adapter.base):
        raise AdapterError(
            f"its base {adapter.base} is quantised, so nothing can be added to the stored weights",
            path=adapter.path,
            fix="name the base in bfloat16 in base_model_name_or_path, or use engine vllm, which serves it unmerged",
        )
    files = check_weights(adapter.base)
    unsafe = next((file for file in files if file.suffix != ".safetensors"), None)
    if unsafe is not None:
        raise AdapterError(f"{unsafe.name} is not a safetensors file; only such bases can be merged", path=adapter.base)
    deltas, replaced = _read(adapter)
    _require_same_ties(adapter, read_ties(adapter.base, files, config), deltas, replaced)
    transposed = config.get("model_type") in _CONV1D
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.offset_keys():
                weight = tensors.get_tensor(name)
                module = name.removesuffix(".weight")
                if name not in replaced and module not in deltas:
                    yield name, weight
                    continue
                own = _same_shape(adapter, name, replaced.pop(name), weight) if name in replaced else weight
                if module in deltas:
                    own = _add(adapter, module, deltas.pop(module), own, transposed)
                yield name, own.to(dtype or weight.dtype)
    left = sorted([*deltas, *replaced])
    if left:
        raise AdapterError(
            f"{len(left)} modules have no place in the base {adapter.base}, first {left[0]!r}; "
            "the adapter was trained on another model",
            path=adapter.path,
        )


def changed_tensors(adapter: Adapter) -> frozenset[str]:
    """Names of the base's tensors that the adapter changes or replaces."""
    deltas, replaced = _read(adapter)
    return frozenset({f"{module}.weight" for module in deltas} | replaced.keys())


def _require_same_ties(
    adapter: Adapter, ties: Ties, deltas: dict[str, Delta], replaced: dict[str, torch.Tensor]
) -> None:
    """An adapter of one end of tied weights makes two tensors of them; equal copies of both ends stay one."""
    if not ties.tied:
        return
    ends = [name for name in replaced if is_embedding(name) or is_output(name)]
    changed = [module for module in deltas if is_embedding(f"{module}.weight") or is_output(f"{module}.weight")]
    outputs = [name for name in ends if is_output(name)]
    embeddings = [name for name in ends if is_embedding(name)]
    if not changed and embeddings and outputs and torch.equal(replaced[embeddings[0]], replaced[outputs[0]]):
        if ties.output is None:
            replaced.pop(outputs[0])
        return
    if ends or changed:
        raise AdapterError(
            f"it changes {', '.join(sorted([*ends, *changed]))}, but its base ties output layer and embeddings: the "
            "trained model has two where the base has one",
            path=adapter.path,
            fix=MERGE,
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
    (file, *more) = check_weights(adapter.path)
    if more or file.suffix != ".safetensors":
        raise AdapterError("expected one adapter_model.safetensors", path=adapter.path)
    deltas: dict[str, Delta] = {}
    replaced: dict[str, torch.Tensor] = {}
    with safe_open(file, framework="pt") as tensors:
        for key, place in places(tensors.offset_keys(), file).items():
            if place.side is None:
                replaced[place.name] = tensors.get_tensor(key)
            else:
                delta = deltas.setdefault(place.name, Delta(embedding=place.embedding))
                delta.factors[place.side] = tensors.get_tensor(key)
    for module, delta in deltas.items():
        if set(delta.factors) != {"A", "B"}:
            raise AdapterError(f"module {module!r} has only factor {'/'.join(delta.factors)}", path=file)
    return deltas, replaced


def _add(adapter: Adapter, module: str, delta: Delta, weight: torch.Tensor, transposed: bool = False) -> torch.Tensor:
    """weight + scale * B A in float32. A: [r, in], B: [out, r]; `transposed`: the base stores [in, out].

    Layout is the base's module class's, as peft decides it, whatever fan_in_fan_out says.
    """
    a, b = delta.factors["A"].float(), delta.factors["B"].float()
    rank = adapter.rank_of(module)
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1] or a.shape[0] != rank:
        raise AdapterError(
            f"module {module!r} has factors of shapes {list(a.shape)} and {list(b.shape)} where its configuration says "
            f"rank {rank}, so its scale cannot be told",
            path=adapter.path,
        )
    change = (b @ a) * adapter.scale(module)
    if transposed or delta.embedding:  # embeddings are [vocab, hidden]
        change = change.T
    return weight.float() + _same_shape(adapter, module, change, weight)


def _same_shape(adapter: Adapter, name: str, tensor: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    if tensor.shape != base.shape:
        raise AdapterError(
            f"{name!r} has shape {list(tensor.shape)}, the base's {list(base.shape)}; "
            "the adapter was trained on another model",
            path=adapter.path,
        )
    return tensor
