"""Numbers in loaded weights that hardly any trained model has: not finite ones, matrices of zeros."""

from __future__ import annotations

from typing import Any

import torch

_READ = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})


def odd_numbers(model: Any) -> list[str]:
    """Notes on a model's weights, one pass over them; empty where there is nothing to say.

    No reason to refuse it: embeddings of tokens that nobody uses may be anything, and layers that were added and not
    yet trained are zero. Rows that such numbers reach are errors by themselves.
    """
    broken, zero = [], []
    for name, tensor in model.named_parameters():
        if tensor.dtype not in _READ or tensor.numel() == 0 or tensor.is_meta:
            continue
        least, most = torch.aminmax(tensor.detach())
        if not bool(torch.isfinite(least) & torch.isfinite(most)):
            broken.append(name)
        elif tensor.dim() > 1 and bool((least == 0) & (most == 0)):
            zero.append(name)
    said = ((broken, "numbers that are not finite in"), (zero, "only zeros in"))
    return [
        f"weights: {what} {len(names)} tensor{'' if len(names) == 1 else 's'}, first {names[0]}"
        for names, what in said
        if names
    ]
