"""Does an adapter fit its base? Told by the headers of both, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from foreshock.jobs.model_files.adapter_config import is_set
from foreshock.jobs.model_files.adapters import Adapter
from foreshock.jobs.model_files.fingerprint import check_weights, read_config
from foreshock.jobs.model_files.quantisation import states_weights
from foreshock.jobs.model_files.safetensors_headers import stored_tensors
from foreshock.jobs.model_files.ties import is_embedding, is_output, read_ties
from foreshock.jobs.model_files.weight_files import ADAPTER_CONFIG

_LAYER = re.compile(r"\.\d+\.")
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
    if not base or states_weights(config, adapter.base):
        return None  # not folded in; the engine that serves it says what it cannot do
    ends = sorted(name for name in changed if is_embedding(name) or is_output(name))
    if ends and read_ties(adapter.base, files, config).tied and not _both(ends):
        return f"it changes {', '.join(ends)}, but its base ties output layer and embeddings: the trained model has two"
    strangers = sorted(changed - base.keys() - (set(ends) if _both(ends) else set()))
    if strangers:
        return _strange(strangers, base, adapter)
    left_out = _left_out(adapter, ranks, base)
    if left_out:
        return (
            f"{len(left_out)} modules that target_modules names have no factors, although other layers' have, first "
            f"{left_out[0]!r}: it was not saved whole"
        )
    return None


def _strange(strangers: list[str], base: Iterable[str], adapter: Adapter) -> str:
    """Why modules of the adapter are not in its base: stored there under other names, or not at all."""
    by_tail = {_tail(name): name for name in base}
    if all(_tail(name) in by_tail for name in strangers):
        return (
            f"its base {adapter.base} stores its tensors under other names than those it was trained by "
            f"({by_tail[_tail(strangers[0])]!r} where the adapter has {strangers[0]!r}), so where they belong is not "
            "said"
        )
    return (
        f"{len(strangers)} of its modules are not in its base {adapter.base}, first {strangers[0]!r}: it was "
        "trained on another model"
    )


def _tail(name: str) -> str:
    """A tensor's name from its layer on."""
    return re.sub(r"^.*?\b(?=(?:layers|h|blocks)\.\d+\.)", "", name)


def _left_out(adapter: Adapter, ranks: Mapping[str, Any], base: Iterable[str]) -> list[str]:
    """Modules that the configuration targets and that lack factors, where the same module of other layers has them."""
    config = read_config(adapter.path / ADAPTER_CONFIG)
    if is_set(config.get("layers_to_transform")):
        return []

    def named(patterns: Any, module: str) -> bool:
        if isinstance(patterns, str):
            return patterns == "all-linear" or re.fullmatch(patterns, module) is not None
        return any(module == name or module.endswith(f".{name}") for name in patterns or ())

    kinds = {_LAYER.sub(".N.", module) for module in ranks}
    modules = (name.removesuffix(".weight") for name in base if name.endswith(".weight"))
    return sorted(
        module
        for module in modules
        if module not in ranks
        and _LAYER.sub(".N.", module) in kinds
        and named(config.get("target_modules"), module)
        and not named(config.get("exclude_modules"), module)
    )


def _both(ends: list[str]) -> bool:
    return any(map(is_embedding, ends)) and any(map(is_output, ends))
