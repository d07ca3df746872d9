"""Mean functions of the logit rate over scaled log step t in [-1, 1].

    constant  mu(t) = b0
    linear    mu(t) = b0 + b1 t
    tanh      mu(t) = b0 + b1 tanh(g t) / tanh(g)

Tanh's g starts at 1. The mean is even in g, so at g = 0 its derivative vanishes and an optimiser that starts there
never moves; the limit g -> 0 is the linear mean and is evaluated by its series.
"""

from __future__ import annotations

from enum import StrEnum

import gpytorch
import torch
from torch import Tensor

_SERIES_BELOW = 1e-2


class MeanKind(StrEnum):
    """Names of the mean functions."""

    CONSTANT = "constant"
    LINEAR = "linear"
    TANH = "tanh"


def tanh_ratio(t: Tensor, g: Tensor) -> Tensor:
    """tanh(g t) / tanh(g), smooth through g = 0, where it is t (1 + g^2 (1 - t^2) / 3)."""
    small = g.abs() < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(g), g)
    return torch.where(small, t * (1 + g**2 * (1 - t**2) / 3), torch.tanh(safe * t) / torch.tanh(safe))


class RateMean(gpytorch.means.Mean):  # type: ignore[misc]  # gpytorch has no types
    """Mean of the given kind for a batch of surfaces; coefficients [B, 1]."""

    def __init__(self, kind: MeanKind, batch: int):
        super().__init__()
        self.kind = kind
        self.register_parameter("level", torch.nn.Parameter(torch.full((batch, 1), -2.0)))
        if kind is not MeanKind.CONSTANT:
            self.register_parameter("rise", torch.nn.Parameter(torch.full((batch, 1), 0.5)))
        if kind is MeanKind.TANH:
            self.register_parameter("gamma", torch.nn.Parameter(torch.ones(batch, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., N, 2] or [..., N, 1] with t first; returns [B, N]."""
        t = x[..., 0]
        if self.kind is MeanKind.CONSTANT:
            return torch.as_tensor(self.level + torch.zeros_like(t))
        shape = t if self.kind is MeanKind.LINEAR else tanh_ratio(t, self.gamma)
        return torch.as_tensor(self.level + self.rise * shape)
