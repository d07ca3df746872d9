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

from foreshock.jobs.safetensors_headers import StoredTensor
from foreshock.jobs.weight_files import read_config

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
    found = sorted(name for name, tensor in stored.items() if is_quantised(name, tensor.dtype))
    if stated is None or not quantises_weights(stated):
        return _unstated(found, stored)
    method = str(stated.get("quant_method") or "by a method that is not named")
    if not found:
        return None if _quantises_itself(stated) else _plain(method, stored)
    mark = _MARKS.get(method)
    if mark is not None and not any(mark[1].search(f"{n} {stored[n].dtype}") for n in found):
        return (
            f"config.json says {method}, which stores {mark[0]}; none are stored, and {found[0]!r} is "
            f"{stored[found[0]].dtype}"
        )
    return _lost_scales(found, stored) or _partly_plain(config, stated, stored)


def is_quantised(name: str, dtype: str) -> bool:
    """Whether a stored tensor is a quantised weight or one of its companions, by safetensors' data type and name."""
    if _BUFFER.search(name) is not None or (_NUMBER.search(name) is None and _MATRIX.search(name) is None):
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


def _quantises_itself(stated: Mapping[str, Any]) -> bool:
    """Whether plain weights belong to the statement: models that round them in each forward pass, as in training."""
    return stated.get("quantization_mode") == "online" or bool(
        stated.get("store_master_weights") or stated.get("keep_master_weights")
    )


def _unstated(found: list[str], stored: Mapping[str, StoredTensor]) -> str | None:
    if not found:
        return None
    return (
        f"{len(found)} tensors are those of quantised weights, first {found[0]!r} ({stored[found[0]].dtype}), and "
        "config.json names no quantisation that says how they are scaled"
    )


def _plain(method: str, stored: Mapping[str, StoredTensor]) -> str | None:
    weights = [n for n, t in sorted(stored.items()) if _NUMBER.search(n) and _MATRIX.search(n) and len(t.shape) > 1]
    if not weights:
        return None
    return (
        f"config.json says that the weights are quantised ({method}), but all {len(weights)} of its layers are stored "
        f"plain, first {weights[0]!r} ({stored[weights[0]].dtype}), with no scale beside any: loaders differ in what "
        "they make of that"
    )


def _lost_scales(found: list[str], stored: Mapping[str, StoredTensor]) -> str | None:
    """Weights in few bits without the numbers that they were divided by."""
    scaled = {_stem(name) for name in stored if _SCALE.search(name)}
    lost = [n for n in found if _MATRIX.search(n) and not _SCALE.search(n) and _stem(n) not in scaled]
    if not lost:
        return None
    return (
        f"{len(lost)} quantised weights have no scale stored beside them, first {lost[0]!r} "
        f"({stored[lost[0]].dtype}): without it they are not the trained ones"
    )


def _stem(name: str) -> str:
    """The module of a weight or of its companion."""
    return _ENDINGS.sub("", name)


def _partly_plain(
    config: Mapping[str, Any], stated: Mapping[str, Any], stored: Mapping[str, StoredTensor]
) -> str | None:
    """Weights that are plain where those of other layers are quantised, and that no list names."""
    if any(stated.get(key) for key in _BY_MODULE):
        return None
    kept = [str(entry) for key in _LISTS for entry in stated.get(key) or ()]
    layers = config.get("num_hidden_layers")
    quantised = {_kind(_stem(n)) for n, t in stored.items() if _MATRIX.search(n) and is_quantised(n, t.dtype)}
    for name, tensor in sorted(stored.items()):
        stem = _stem(name)
        if not name.endswith("weight") or is_quantised(name, tensor.dtype) or _kind(stem) not in quantised:
            continue
        if _names(kept, stem) or _is_beyond(name, layers):
            continue
        return (
            f"{name!r} is stored as {tensor.dtype}, where those of other layers are quantised, and nothing in "
            "quantization_config leaves it out"
        )
    return None


def _kind(stem: str) -> str:
    return _NUMBER.sub("N", f"{stem}.")


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
