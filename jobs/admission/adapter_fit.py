"""Does an adapter fit its base? Told by the headers of both, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable

from foreshock.jobs.admission.adapter_targets import target_problem
from foreshock.jobs.model_files.adapter_tensors import places
from foreshock.jobs.model_files.adapters import Adapter
from foreshock.jobs.model_files.fingerprint import check_weights, read_config
from foreshock.jobs.model_files.quantisation import states_weights
from foreshock.jobs.model_files.safetensors_headers import StoredTensor, same_numbers, stored_tensors
from foreshock.jobs.model_files.ties import is_embedding, is_output, read_ties
from foreshock.jobs.model_files.weight_files import ADAPTER_CONFIG


def adapter_problem(adapter: Adapter) -> str | None:
    """Why the adapter cannot be folded into its base; None if headers show nothing against it."""
    files, own = check_weights(adapter.base), check_weights(adapter.path)
    if len(own) != 1 or own[0].suffix != ".safetensors":
        return f"its weights are {', '.join(file.name for file in own)}; only one adapter_model.safetensors is read"
    base, stored = stored_tensors(files), stored_tensors(own)
    changed: set[str] = set()
    ranks: dict[str, dict[str, int]] = {}
    for key, place in places(stored, own[0]).items():
        name, shape = place.name, stored[key].shape
        if place.side is not None:
            ranks.setdefault(name, {})[place.side] = shape[0 if place.side == "A" else -1]
            changed.add(f"{name}.weight")
            continue
        if name in base and base[name].shape != shape:
            return (
                f"{name} has shape {list(shape)}, the base's {list(base[name].shape)}: the vocabulary was "
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
    tied = read_ties(adapter.base, files, config).tied
    ends = sorted(name for name in changed if is_embedding(name) or is_output(name))
    at_ends = [(key, p) for key, p in places(stored, own[0]).items() if {p.name, f"{p.name}.weight"} & {*ends}]
    if tied and ends and not _are_copies([stored[key] for key, place in at_ends if place.side is None], len(at_ends)):
        return f"it changes {', '.join(ends)}, but its base ties output layer and embeddings: the trained model has two"
    strangers = sorted(changed - base.keys() - (set(ends) if tied else set()))
    if strangers:
        return _strange(strangers, base, adapter)
    return target_problem(read_config(adapter.path / ADAPTER_CONFIG), config, ranks.keys(), base)


def _are_copies(tensors: list[StoredTensor], n_changes: int) -> bool:
    """Whether all that an adapter does at the ends of a tied model is to replace both by the same numbers."""
    return len(tensors) == n_changes == 2 and same_numbers(*tensors)


def _strange(strangers: list[str], base: Iterable[str], adapter: Adapter) -> str:
    """Why modules of the adapter are not in its base: stored there under other names, or not at all."""
    towers = re.compile("vision|visual|audio")  # their layers are numbered as those of the text model are
    by_tail = {_tail(name): name for name in sorted(base, key=lambda name: towers.search(name) is None)}
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
