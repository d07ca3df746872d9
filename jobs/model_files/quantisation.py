"""What config.json says of quantised weights, held against the tensors really stored.

Loaders believe the statement: transformers loads plain weights under it as they are on one device and not on another,
and takes quantised weights whose scales are lost for the weights. What is stored decides, or the model is refused.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.safetensors_headers import StoredTensor
from foreshock.jobs.model_files.weight_files import read_config

MODELOPT_FILE = "hf_quant_config.json"
"""Where older versions of ModelOpt state what config.json does not; vLLM reads it, transformers does not."""

FIX = (
    "keep config.json and weights as one save wrote them: remove quantization_config if the stored weights are the "
    "trained ones (merged or dequantised), copy the quantised model's own if not, or save the model in bfloat16"
)
"""What to do about any of the problems."""

_KEYS = ("quantization_config", "compression_config")
_PLAIN = frozenset({"F64", "F32", "F16", "BF16", "BOOL", "I64", "I32"})
"""Data types that no quantised weight has: numbers that are what they say, masks and positions."""

_SCALE = re.compile(r"(scales?|scale_inv|scale_2|absmax|SCB)$")
_PACKED = re.compile(r"(^|[._])(qweight|weight_packed|weight_shape|blocks|W_q|codes|codebooks|quant_state\S*)$")
_NAMED_SCALE = re.compile(r"[._](weight_scale|weight_scale_inv|qzeros|absmax|SCB)$")
"""Names that nothing but a quantised weight's companions have, whatever their data type."""

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_IN_LAYER = re.compile(r"\.(\d+|N)\.")
_BUFFER = re.compile(r"(masked_bias|attn\.bias|attention\.bias|position_ids|causal_mask)$")
_MATRIX = re.compile(r"(weight|qweight|weight_packed|_blocks|gate_up_proj|down_proj|gate_proj|up_proj)$")

_ENDINGS = re.compile(
    r"([._]+(weight_scale_inv|weight_scale_2|weight_scale|scale_inv|scales?|SCB|qzeros|g_idx|(nested_)?(absmax|quant_map)"
    r"|quant_state\S*|qweight|weight_packed|weight|blocks))+$"
)
"""What follows a module's name in those of its weight and of the weight's companions."""

_MARKS: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "gptq": ("qweight", re.compile(r"\.qweight ")),
    "awq": ("qweight", re.compile(r"\.qweight ")),
    "mxfp4": ("blocks and scales", re.compile(r"_blocks ")),
    "fp8": ("weights of type F8", re.compile(r" F8_")),
    "bitsandbytes": ("absmax or SCB", re.compile(r"(absmax|SCB|quant_state\S*) ")),
}
"""What a method stores, in words, and the name or type (with a space between) that shows it."""

_LISTS = ("modules_to_not_convert", "ignore", "ignored_layers", "exclude", "exclude_modules", "llm_int8_skip_modules")
_BY_MODULE = ("dynamic", "extra_config", "config_groups", "quant_type", "layer_quant_config", "module_quant_configs")
"""Keys that give modules rules of their own, which are not followed here."""


Groups = dict[tuple[str, str], list[str]]
"""Names of stored tensors by kind and data type."""


def statement(config: Mapping[str, Any], folder: Path | None = None) -> Any:
    """What a parsed config.json (or ModelOpt's own file in `folder`) says of quantisation; None if nothing."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, Mapping) else {}):
        for key in _KEYS:
            if section.get(key) is not None:
                return section[key]
    file = None if folder is None else folder / MODELOPT_FILE
    if file is None or not file.is_file():
        return None
    stated = read_config(file).get("quantization")
    return {"quant_method": "modelopt", **stated} if isinstance(stated, Mapping) else None


def quantisation_problem(
    config: Mapping[str, Any], stored: Mapping[str, StoredTensor], folder: Path | None = None
) -> str | None:
    """Why statement and stored tensors make no model; None if they do, or if nothing is known of the tensors."""
    stated = statement(config, folder)
    if stated is not None and not isinstance(stated, Mapping):
        return f"quantization_config is {stated!r}; valid: an object with quant_method, or none"
    if not stored:
        return None
    groups = _grouped(stored)
    found = {group: names for group, names in groups.items() if is_quantised(*group)}
    if stated is None or not quantises_weights(stated):
        return _unstated(found)
    method = str(stated.get("quant_method") or "by a method that is not named")
    if not found:
        return None if _quantises_itself(stated) else _plain(method, groups)
    mark = _MARKS.get(method)
    if mark is not None and not any(mark[1].search(" ".join(group)) for group in found):
        name, dtype = _first(found)
        return f"config.json says {method}, which stores {mark[0]}; none are stored, and {name!r} is {dtype}"
    return _lost_scales(found, groups) or _partly_plain(config, stated, found, groups)


def _grouped(stored: Mapping[str, StoredTensor]) -> Groups:
    """Names by kind (every number in them is N) and data type: experts make 100,000 tensors of a few dozen kinds."""
    groups: Groups = {}
    for name, tensor in stored.items():
        groups.setdefault((_NUMBER.sub("N", name), tensor.dtype), []).append(name)
    return groups


def _first(groups: Groups) -> tuple[str, str]:
    """The first name of all, and its data type."""
    return min((min(names), dtype) for (_, dtype), names in groups.items())


def is_quantised(name: str, dtype: str) -> bool:
    """Whether a stored tensor is a quantised weight or one of its companions, by safetensors' data type and name."""
    if _BUFFER.search(name) is not None or (_IN_LAYER.search(name) is None and _MATRIX.search(name) is None):
        return False
    if _PACKED.search(name) is not None or _NAMED_SCALE.search(name) is not None:
        return True
    return dtype not in _PLAIN


def quantises_weights(stated: Mapping[str, Any]) -> bool:
    """Whether the statement is about weights, and not about caches alone."""
    if stated.get("quant_method") == "compressed-tensors":
        return bool(stated.get("config_groups"))
    if stated.get("quant_method") == "modelopt" and "quant_algo" in stated:
        return stated["quant_algo"] is not None
    return True


def states_weights(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a model's files say that its weights are quantised."""
    stated = statement(config, folder)
    return isinstance(stated, Mapping) and quantises_weights(stated)


def _quantises_itself(stated: Mapping[str, Any]) -> bool:
    """Whether plain weights belong to the statement: models that round them in each forward pass, as in training."""
    return stated.get("quantization_mode") == "online" or bool(
        stated.get("store_master_weights") or stated.get("keep_master_weights")
    )


def _unstated(found: Groups) -> str | None:
    if not found:
        return None
    name, dtype = _first(found)
    return (
        f"{sum(map(len, found.values()))} tensors are those of quantised weights, first {name!r} ({dtype}), and "
        "config.json names no quantisation that says how they are scaled"
    )


def _plain(method: str, groups: Groups) -> str | None:
    weights = {g: names for g, names in groups.items() if _IN_LAYER.search(g[0]) and _MATRIX.search(g[0])}
    if not weights:
        return None
    name, dtype = _first(weights)
    return (
        f"config.json says that the weights are quantised ({method}), but all {sum(map(len, weights.values()))} of its "
        f"layers' are stored plain, first {name!r} ({dtype}), with no scale beside any: loaders differ in what they "
        "make of that"
    )


def _lost_scales(found: Groups, groups: Groups) -> str | None:
    """Weights in few bits without the numbers that they were divided by."""
    scaled: dict[str, set[str]] = {}
    for (kind, _), names in groups.items():
        if _SCALE.search(kind):
            scaled.setdefault(_stem(kind), set()).update(_stems(kind, names))
    lost: Groups = {}
    for (kind, dtype), names in found.items():
        if _MATRIX.search(kind) is None or _SCALE.search(kind) is not None:
            continue
        beside = scaled.get(_stem(kind), set())
        without = [name for name, stem in zip(names, _stems(kind, names), strict=True) if stem not in beside]
        if without:
            lost[kind, dtype] = without
    if not lost:
        return None
    name, dtype = _first(lost)
    return (
        f"{sum(map(len, lost.values()))} quantised weights have no scale stored beside them, first {name!r} ({dtype}): "
        "without it they are not the trained ones"
    )


def _stem(name: str) -> str:
    """The module of a weight or of its companion."""
    return _ENDINGS.sub("", name)


def _stems(kind: str, names: list[str]) -> list[str]:
    """The same of names of one kind, which all end alike."""
    ending = len(kind) - len(_stem(kind))
    return [name[: len(name) - ending] for name in names]


def _partly_plain(config: Mapping[str, Any], stated: Mapping[str, Any], found: Groups, groups: Groups) -> str | None:
    """Weights that are plain where those of other layers are quantised, and that no list names."""
    if any(stated.get(key) for key in _BY_MODULE):
        return None
    kept = [str(entry) for key in _LISTS for entry in stated.get(key) or ()]
    layers = config.get("num_hidden_layers")
    quantised = {_stem(kind) for kind, _ in found if _MATRIX.search(kind)}
    for (kind, dtype), names in sorted(groups.items()):
        if (kind, dtype) in found or not kind.endswith("weight") or _stem(kind) not in quantised:
            continue
        for name in sorted(names):
            if not _names(kept, _stem(name)) and not _is_beyond(name, layers):
                return (
                    f"{name!r} is stored as {dtype}, where those of other layers are quantised, and nothing in "
                    "quantization_config leaves it out"
                )
    return None


def _is_beyond(name: str, layers: Any) -> bool:
    """Whether a tensor is of a layer beyond the model's, which predicts further tokens and is not loaded."""
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", name)
    return found is not None and isinstance(layers, int) and int(found[1]) >= layers


def _names(patterns: list[str], module: str) -> bool:
    def fits(pattern: str) -> bool:
        if pattern.startswith("re:"):
            try:
                return re.match(pattern[3:], module) is not None
            except re.error:
                return False
        tail = pattern[max(pattern.find("layers."), 0) :]  # versions differ in what they put before it
        return tail in module or fnmatch.fnmatch(module, pattern)

    return any(map(fits, patterns))
