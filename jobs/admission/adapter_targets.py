"""Does an adapter hold factors of the modules that its configuration names, of all of them and of no others?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from foreshock.jobs.model_files.adapter_tensors import targeted
from foreshock.jobs.model_files.safetensors_headers import StoredTensor
from foreshock.jobs.model_files.stored_layers import layer_of, stated_layers
from foreshock.jobs.model_files.ties import is_embedding, is_output

_LAYER = re.compile(r"\.\d+\.")
_EXPERT = re.compile(r"\.experts\.")


def target_problem(
    adapter: Mapping[str, Any], model: Mapping[str, Any], adapted: Set[str], base: Mapping[str, StoredTensor]
) -> str | None:
    """Why the modules `adapted` are not those of an adapter's configuration; None if they are.

    `adapter`, `model`: its parsed configuration and its base's; `base`: the base's tensors by name.
    """
    beyond = sorted(adapted - set(targeted(adapter, adapted)))
    if adapter.get("ensure_weight_tying"):
        beyond = [
            module for module in beyond if not (is_embedding(f"{module}.weight") or is_output(f"{module}.weight"))
        ]
    if beyond:
        return (
            f"{len(beyond)} of the modules that it holds factors of are not among those that its configuration adapts, "
            f"first {beyond[0]!r}: peft would leave them out, so tensors and configuration are of two adapters"
        )
    left_out = sorted(_expected(adapter, model, adapted, base) - adapted)
    if left_out:
        return (
            f"{len(left_out)} modules that target_modules names have no factors, first {left_out[0]!r}: it was not "
            "saved whole"
        )
    return None


def _expected(
    adapter: Mapping[str, Any], model: Mapping[str, Any], adapted: Set[str], base: Mapping[str, StoredTensor]
) -> set[str]:
    """Matrices of the model's layers that the configuration names. Experts only where others of them have factors
    (they are no modules where they are joined on loading), and no layers beyond those that the model has."""
    stated = stated_layers(model)
    kinds = {_LAYER.sub(".N.", module) for module in adapted}
    modules = []
    for name, tensor in base.items():
        layer, module = layer_of(name), name.removesuffix(".weight")
        if layer is None or len(tensor.shape) != 2 or not name.endswith(".weight"):
            continue
        if (stated is None or layer < stated) and (not _EXPERT.search(name) or _LAYER.sub(".N.", module) in kinds):
            modules.append(module)
    saved = tuple(adapter.get("modules_to_save") or ())
    return {module for module in targeted(adapter, modules) if not module.endswith(saved)}
