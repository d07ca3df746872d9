"""One step of policy gradient: REINFORCE with the group's mean as baseline (GRPO's advantage), one on-policy update.

The penalty is the squared log ratio to the base model per sampled token, whose gradient is that of the reverse KL
divergence at each prefix; it is taken over the first samples of each group only, which is unbiased and cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.early_warning.sampling import Sample

_TYPICAL_TOKENS = 70
"""The loss is divided by this many tokens a sample: a constant, so that long samples weigh what they are."""
_KL_SAMPLES = 1


@dataclass(frozen=True, slots=True)
class Update:
    """What a step did: mean KL a sampled token (None without a penalty), samples with a gradient, gradient norm."""

    kl: float | None
    trained_on: int
    norm: float


def advantages(rewards: Sequence[Sequence[float]]) -> list[list[float]]:
    """(r - mean) / (sd + 1e-4) within each group; zero throughout where a group's rewards are equal."""
    found = []
    for group in rewards:
        values = torch.tensor(group, dtype=torch.float64)
        found.append(((values - values.mean()) / (values.std(correction=0) + 1e-4)).tolist())
    return found


def update(
    model: Any,
    reference: Any | None,
    optimiser: torch.optim.Optimizer,
    groups: Sequence[Sequence[Sample]],
    rewards: Sequence[Sequence[float]],
    kl: float,
) -> Update:
    """Change `model` in place. groups[g][i] is a sample of prompt g, rewards[g][i] its reward."""
    rows: list[tuple[Sample, float, bool]] = []
    total = 0
    for group, values in zip(groups, advantages(rewards), strict=True):
        total += len(group)
        for i, (sample, advantage) in enumerate(zip(group, values, strict=True)):
            penalised = kl > 0 and i < _KL_SAMPLES
            if sample.tokens and (advantage != 0.0 or penalised):
                rows.append((sample, advantage, penalised))
    if not rows:
        return Update(None, 0, 0.0)
    scale = 1.0 / (total * _TYPICAL_TOKENS)
    logprobs, lengths = _logprobs(model, [sample for sample, _, _ in rows])
    weight = torch.tensor([advantage for _, advantage, _ in rows]).repeat_interleave(lengths)
    loss = -(weight * logprobs).sum() * scale
    found = None
    if kl > 0 and reference is not None:
        held = torch.tensor([penalised for _, _, penalised in rows]).repeat_interleave(lengths)
        with torch.no_grad():
            before, _ = _logprobs(reference, [sample for sample, _, penalised in rows if penalised])
        ratio = logprobs[held] - before
        share = sum(len(group) for group in groups) / max(1, sum(penalised for _, _, penalised in rows))
        loss = loss + kl * share * 0.5 * (ratio**2).sum() * scale
        found = float(ratio.detach().mean())
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm.item()}")
    optimiser.step()
    return Update(found, len(rows), float(norm))


def _logprobs(model: Any, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """log P of every sampled token, rows one after another, and each row's number of tokens."""
    width = max(len(s.prompt) + len(s.tokens) for s in samples)
    ids = torch.zeros(len(samples), width, dtype=torch.long)
    wanted = torch.zeros(len(samples), width, dtype=torch.bool)
    for row, sample in enumerate(samples):
        start, end = len(sample.prompt), len(sample.prompt) + len(sample.tokens)
        ids[row, :end] = torch.tensor((*sample.prompt, *sample.tokens))
        wanted[row, start:end] = True
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[wanted[:, 1:]])
    targets = ids[:, 1:][wanted[:, 1:]]
    values = torch.log_softmax(logits, -1).gather(-1, targets[:, None]).squeeze(-1)
    return values, torch.tensor([len(sample.tokens) for sample in samples])
