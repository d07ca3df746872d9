"""Does an adapter fit its base? Told by the headers of both, before anything is loaded."""

from __future__ import annotations

import re

from foreshock.jobs.adapters import Adapter
from foreshock.jobs.fingerprint import check_weights, read_config
from foreshock.jobs.safetensors_headers import stored_tensors
from foreshock.jobs.ties import is_embedding, is_output, read_ties

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?:embedding_)?(?P<side>[AB])(?:\.default)?(?:\.weight)?$")


def adapter_problem(adapter: Adapter) -> str | None:
    """Why the adapter cannot be folded into its base; None if headers show nothing against it."""
    files, own = check_weights(adapter.base), check_weights(adapter.path)
    if len(own) != 1 or own[0].suffix != ".safetensors":
        return f"its weights are {', '.join(file.name for file in own)}; only one adapter_model.safetensors is read"
    base = stored_tensors(files)
    changed: set[str] = set()
    ranks: dict[str, dict[str, int]] = {}
    for key, tensor in stored_tensors(own).items():
        name = key.removeprefix(_PREFIX)
        factor = _FACTOR.match(name)
        if factor is not None:
            ranks.setdefault(factor["module"], {})[factor["side"]] = tensor.shape[0 if factor["side"] == "A" else -1]
            changed.add(f"{factor['module']}.weight")
        elif "lora_" in name:
            return f"tensor {key!r} is not a plain LoRA factor"
        else:
            name = re.sub(r"\.(modules_to_save(\.default)?|base_layer|original_module)\.", ".", name)
            if name in base and base[name].shape != tensor.shape:
                return (
                    f"{name} has shape {list(tensor.shape)}, the base's {list(base[name].shape)}: the vocabulary was "
                    "resized in training, or it was trained on another model"
                )
            changed.add(name)
    for module, sides in sorted(ranks.items()):
        expected = adapter.rank_of(module)
        if set(sides) != {"A", "B"} or set(sides.values()) != {expected}:
            shown = ", ".join(f"{side}: {rank}" for side, rank in sorted(sides.items()))
            return f"module {module!r} has factors of rank {shown}; its configuration says {expected}"
    config = read_config(adapter.base / "config.json")
    if not base or config.get("quantization_config"):
        return None  # not folded in; the engine that serves it says what it cannot do
    ends = sorted(name for name in changed if is_embedding(name) or is_output(name))
    if ends and read_ties(adapter.base, files, config).tied and not _both(ends):
        return f"it changes {', '.join(ends)}, but its base ties output layer and embeddings: the trained model has two"
    strangers = sorted(changed - base.keys() - (set(ends) if _both(ends) else set()))
    if strangers:
        return (
            f"{len(strangers)} of its modules are not in its base {adapter.base}, first {strangers[0]!r}: it was "
            "trained on another model"
        )
    return None


def _both(ends: list[str]) -> bool:
    return any(map(is_embedding, ends)) and any(map(is_output, ends))
