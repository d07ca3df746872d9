"""Fit the networks that give the headline's quantiles: pinball loss, worlds weighted alike, one thread."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from benchmarks.calibration.worlds.sweep import Array
from torch import nn

from foreshock.analysis.headline.learned import PROBABILITIES
from foreshock.analysis.headline.networks import Networks, Scaling

HIDDEN = (320, 192, 96)
EPOCHS, BATCH, RATE, DECAY = 14, 512, 2e-3, 1e-2
DROPPED, JITTER = 0.3, 0.2
"""Share of hidden units dropped, and sd of noise on inputs of sd 1: tails of narrower fits miss other families."""
OF_QUANTILE = (4.0, 2.5, 1.0, 2.5, 4.0)
"""Weights of the five pinball losses, which are small for outer quantiles."""


class _Net(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        sizes = (inputs, *HIDDEN, len(PROBABILITIES))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.drop = nn.Dropout(DROPPED)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = self.drop(nn.functional.silu(layer(x)))
        raw = self.layers[-1](x)
        away, middle = nn.functional.softplus(raw), raw[:, 2]
        low, high = middle - away[:, 1], middle + away[:, 3]
        return torch.stack([low - away[:, 0], low, middle, high, high + away[:, 4]], 1)


def _fit(inputs: Array, target: Array, weight: Array, seed: int) -> _Net:
    torch.manual_seed(seed)
    x, y, w = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in (inputs, target, weight))
    q, of_quantile = torch.tensor(PROBABILITIES), torch.tensor(OF_QUANTILE)
    net = _Net(x.shape[1])
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    batches = max(len(x) // BATCH, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * batches + 1, pct_start=0.15)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, batches * BATCH, BATCH):
            rows = order[start : start + BATCH]
            error = y[rows, None] - net(x[rows] + JITTER * torch.randn(len(rows), x.shape[1]))
            loss = ((torch.maximum(q * error, (q - 1) * error) * of_quantile).sum(1) * w[rows]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's stubs
            optimiser.step()
            schedule.step()
    return net.eval()


def fit_networks(values: Array, target: Array, weight: Array, seed: int, members: int) -> Networks:
    """Networks of features [N, F] fitted to target [N] with weights [N]."""
    torch.set_num_threads(1)
    scaling = Scaling.of(values)
    inputs = scaling.inputs(values)
    nets = [_fit(inputs, target, weight, seed + member) for member in range(members)]
    layers = [[net.layers[i] for net in nets] for i in range(len(HIDDEN) + 1)]
    return Networks(
        scaling,
        tuple(np.stack([layer.weight.detach().numpy().T for layer in same]) for same in layers),
        tuple(np.stack([layer.bias.detach().numpy() for layer in same]) for same in layers),
    )
