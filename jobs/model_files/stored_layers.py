"""What the stored tensors of a model say against its config.json: numbers of layers, of tokens, none at all.

transformers leaves further layers out without an error: another model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from foreshock.counted import counted
from foreshock.jobs.model_files.safetensors_headers import StoredTensor

_LAYER = re.compile(r"^(?:(?:_orig_mod|module|language_model|model|transformer)\.)*(?:layers|h)\.(\d+)\.")
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_PREDICTORS = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")
"""Further layers that predict tokens beyond the next one; a model without them is the same model."""


_TRAINED = (".weight", ".bias")


def layer_problem(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """What speaks against the stored tensors `names`, None if nothing does or nothing is known."""
    stated = stated_layers(config)
    stored = {layer for name in names if (layer := layer_of(name)) is not None}
    if stated is None or not stored:
        return None
    further = sum(n for key in _PREDICTORS if isinstance(n := _of_text(config).get(key), int))
    if stated <= len(stored) <= stated + further and max(stored) < stated + further:
        return None
    return f"the weights hold {counted(len(stored), 'layer')} (up to number {max(stored)}), config.json says {stated}"


def shape_problem(stored: Mapping[str, StoredTensor], embedding: str | None, n_tokens: int | None) -> str | None:
    """Tensors without numbers, as sharded trainers leave them, and embeddings of another vocabulary than `n_tokens`;
    None if nothing is wrong or nothing is known."""
    empty = sorted(name for name, tensor in stored.items() if 0 in tensor.shape and name.endswith(_TRAINED))
    if empty:
        return (
            f"no numbers in {counted(len(empty), 'tensor')}, first {empty[0]!r}: a sharded model was saved without "
            "gathering it"
        )
    rows = stored[embedding].shape[0] if embedding is not None and stored[embedding].shape else None
    if rows is not None and n_tokens is not None and rows != n_tokens:
        return f"{embedding} has {rows} rows, config.json says a vocabulary of {n_tokens}"
    return None


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
