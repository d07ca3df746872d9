"""Whether a model's logits depend on earlier tokens alone, as every score here takes for granted."""

from __future__ import annotations

import torch

from foreshock.jobs.engines.exhausted import is_exhaustion
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.model_files.fingerprint import CheckpointError

_LENGTH = 24
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE = 2e-2
"""Of the largest logit: what other tokens in a batch may move by rounding, where experts gather them."""


@torch.inference_mode()
def require_causal(model: LogitsModel) -> None:
    """Raise CheckpointError if other tokens at the end of a text change logits at its beginning.

    Encoders and prefix models read a whole text at once, and experts with a limited capacity are taken up by later
    tokens: the log-probability of a token would then know of that token.
    """
    n = min(_LENGTH, model.context_length or _LENGTH)
    half, before = n // 2, model.calls
    if half == 0 or model.vocab_size < 2:
        return
    one = torch.tensor([[1 + 7 * i % (model.vocab_size - 1) for i in range(n)]], device=model.device)
    other = one.clone()
    other[0, half:] = (one[0, half:] + model.vocab_size // 2) % model.vocab_size
    at = torch.arange(half, device=model.device)
    try:
        first, second = (model.prompt_logits(ids, torch.zeros_like(at), at).float() for ids in (one, other))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError) as error:
        if is_exhaustion(error):
            raise
        return  # a model that cannot be run is refused with its reason where its steps are tried
    finally:
        model.calls = before
    size = float(first.abs().nan_to_num(posinf=0.0).max()) + 1.0
    moved = float((first - second).abs().nan_to_num(posinf=0.0).max())
    if moved > _TOLERANCE.get(model.dtype, _COARSE) * size:
        raise CheckpointError(
            f"later tokens change what {type(model.model).__name__} says of earlier ones (a logit by {moved:.2g}), so "
            "its log-probabilities are not those that it draws by; only causal language models can be evaluated"
        )
