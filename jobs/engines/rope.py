"""Models whose rotary frequencies change with length, and what that asks of a batch.

LongRoPE takes other frequencies once a sequence is longer than those trained on first, dynamic NTK others at every
length beyond that. transformers decides by the longest position of the whole batch and, for dynamic NTK, by what the
model has seen before; here every row is computed as it is alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LONGROPE, DYNAMIC = "longrope", "dynamic"


@dataclass(frozen=True, slots=True)
class RopeSwitch:
    """Sequences of more than `at` tokens have other frequencies; of a dynamic model, others at every length.

    `limit`: the most tokens that a dynamic model is scaled to.
    """

    kind: str
    at: int
    limit: int | None = None

    def group(self, n_tokens: int) -> int:
        """Sequences with the same value may share a forward pass."""
        if n_tokens <= self.at:
            return 0
        return n_tokens if self.kind == DYNAMIC else 1

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Whether a prefix of `n_tokens` has the frequencies of the sequence of `longer` tokens that it begins."""
        return self.group(n_tokens) == self.group(longer)

    def crosses(self, n_prompt: int, n_most: int) -> bool:
        """Whether a row of `n_prompt` tokens that grows to at most `n_most` may change its frequencies on the way."""
        return n_most > self.at and (self.kind == DYNAMIC or n_prompt <= self.at)


def rope_switch(config: Any) -> RopeSwitch | None:
    """The switch that a text model's configuration describes; None where frequencies never change."""
    room = getattr(config, "max_position_embeddings", None)
    found = None
    for parameters in _parameters(getattr(config, "rope_parameters", None)):
        kind = str(parameters.get("rope_type", ""))
        if kind == LONGROPE:
            at = parameters.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            if isinstance(at, int):
                found = RopeSwitch(LONGROPE, at if found is None else min(at, found.at))
        elif DYNAMIC in kind and isinstance(room, int):
            factor = parameters.get("factor") or 1.0
            return RopeSwitch(DYNAMIC, room, int(room * factor))
    return found


def unknown_rope(config: Any) -> str | None:
    """A kind of rotary frequencies that transformers does not know, so that no model can be made of the configuration;
    None if it knows all (or is a version that does not say)."""
    known = [name for name in dir(config) if re.fullmatch(r"_validate_\w+_rope_parameters", name)]
    for parameters in _parameters(getattr(config, "rope_parameters", None)):
        kind = str(parameters.get("rope_type") or "default")
        if known and f"_validate_{kind}_rope_parameters" not in known:
            return kind
    return None


def _parameters(rope: Any) -> Iterator[Mapping[str, Any]]:
    """The parameters of the model, or of each kind of its layers."""
    if not isinstance(rope, Mapping):
        return
    if "rope_type" in rope:
        yield rope
    else:
        yield from (value for value in rope.values() if isinstance(value, Mapping))


def forget_lengths(model: Any, device: torch.device) -> None:
    """Bring a dynamic model's frequencies back to those of short sequences, as in one that has seen nothing yet."""
    import torch

    nothing = torch.zeros((1, 1, 1), device=device)
    first = torch.zeros((1, 1), dtype=torch.long, device=device)
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if not hasattr(module, "max_seq_len_cached") or kinds is None:
            continue
        for layer_type in kinds if isinstance(kinds, Mapping) else (None,):
            module(nothing, first, **({} if layer_type is None else {"layer_type": layer_type}))


def recomputes_at_switch(model: Any) -> bool:
    """Whether the model's own `generate` reads everything anew when a row passes the switch (Phi-3 and its kin)."""
    from foreshock.jobs.engines.model_classes import GenerationMixin

    own = type(model).prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation
    return own and hasattr(model.config, "original_max_position_embeddings")
