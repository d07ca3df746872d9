"""What the stored tensors of a model's layers say against its config.json.

transformers leaves further layers out without an error, and takes scaled weights for the weights: another model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from foreshock.jobs.safetensors_headers import StoredTensor

_LAYER = re.compile(r"^(?:(?:_orig_mod|module|language_model|model|transformer)\.)*(?:layers|h)\.(\d+)\.")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_PREDICTORS = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
"""Further layers that predict tokens beyond the next one; a model without them is the same model."""
_UNSCALED = frozenset({"F64", "F32", "F16", "BF16"})
"""Data types of weights that are what they say."""


def layer_problem(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """What speaks against the stored tensors `names`, None if nothing does or nothing is known."""
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, Mapping) else config
    stated = next((inner[key] for key in _COUNTS if isinstance(inner.get(key), int)), None)
    stored = {int(found[1]) for name in names if (found := _LAYER.match(name)) is not None}
    if stated is None or not stored:
        return None
    further = sum(n for key in _PREDICTORS if isinstance(n := inner.get(key), int))
    if stated <= len(stored) <= stated + further and max(stored) < stated + further:
        return None
    return f"{len(stored)} layers are stored (up to number {max(stored)}), config.json says {stated}"


def is_of_a_layer(name: str) -> bool:
    """Whether a stored tensor is part of one of the text model's layers."""
    return _LAYER.match(name) is not None


def scale_problem(config: Mapping[str, Any], stored: Mapping[str, StoredTensor]) -> str | None:
    """A layer's weights in 8 bits or fewer of which config.json says no quantisation: whatever they were divided by is
    lost, and a loader takes them for the weights. None if there are none."""
    text = config.get("text_config")
    if config.get("quantization_config") or (isinstance(text, Mapping) and text.get("quantization_config")):
        return None
    found = [
        n for n, t in sorted(stored.items()) if is_of_a_layer(n) and n.endswith("weight") and t.dtype not in _UNSCALED
    ]
    if not found:
        return None
    return (
        f"{len(found)} weights are stored as {stored[found[0]].dtype}, first {found[0]!r}, and config.json names no "
        "quantisation that says how they are scaled"
    )
