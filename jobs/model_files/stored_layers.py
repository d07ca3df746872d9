"""What the stored tensors of a model's layers say against its config.json.

transformers leaves further layers out without an error: another model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_LAYER = re.compile(r"^(?:(?:_orig_mod|module|language_model|model|transformer)\.)*(?:layers|h)\.(\d+)\.")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_PREDICTORS = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
"""Further layers that predict tokens beyond the next one; a model without them is the same model."""


def layer_problem(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """What speaks against the stored tensors `names`, None if nothing does or nothing is known."""
    stated = stated_layers(config)
    stored = {layer for name in names if (layer := layer_of(name)) is not None}
    if stated is None or not stored:
        return None
    further = sum(n for key in _PREDICTORS if isinstance(n := _of_text(config).get(key), int))
    if stated <= len(stored) <= stated + further and max(stored) < stated + further:
        return None
    return f"{len(stored)} layers are stored (up to number {max(stored)}), config.json says {stated}"


def stated_layers(config: Mapping[str, Any]) -> int | None:
    """The number of layers that a parsed config.json gives; None where it gives none."""
    inner = _of_text(config)
    return next((inner[key] for key in _COUNTS if isinstance(inner.get(key), int)), None)


def _of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else config


def layer_of(name: str) -> int | None:
    """The number of the text model's layer that a stored tensor is part of; None if it is part of none."""
    found = _LAYER.match(name)
    return None if found is None else int(found[1])


def is_of_a_layer(name: str) -> bool:
    """Whether a stored tensor is part of one of the text model's layers."""
    return layer_of(name) is not None
