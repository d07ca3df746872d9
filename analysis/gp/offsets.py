"""How far a prefill of a given KL lifts the logit rate above the unprompted one.

    linear   offset = alpha KL
    concave  offset = alpha s log(1 + KL / s)     the first words buy more than the last; s -> infinity is linear
    jensen   offset = max(KL - Var(KL) / 2, 0), without alpha, and Var(KL) added to the variance (known too strong)

KL is cut at 0 below (a Monte Carlo mean may be negative) and at `kl_cap` above, and a cell whose prefixes were not
scored has no offset at all instead of a zero one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from foreshock.analysis.gp.counts import SurfaceCounts


class OffsetKind(StrEnum):
    """Names of the offset functions."""

    LINEAR = "linear"
    CONCAVE = "concave"
    JENSEN = "jensen"


@dataclass(frozen=True, slots=True)
class OffsetSettings:
    """alpha (per nat), sigma_is (logits), sigma_slope (logits per nat), kl_cap and the concave scale s (nats)."""

    kind: OffsetKind = OffsetKind.LINEAR
    alpha: float = 0.15
    sigma_is: float = 1.5
    sigma_slope: float = 0.0
    kl_cap: float | None = None
    concave_scale: float = 5.0

    def __post_init__(self) -> None:
        for name in ("sigma_is", "concave_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid: above 0")
        if self.sigma_slope < 0:
            raise ValueError(f"sigma_slope is {self.sigma_slope!r}; valid: 0 or above")
        if self.kl_cap is not None and not self.kl_cap > 0:
            raise ValueError(f"kl_cap is {self.kl_cap!r}; valid: above 0, or none")


def scored(counts: SurfaceCounts) -> Tensor:
    """[B, N] true where the cell has a KL (level 0 always has: 0)."""
    return torch.isfinite(counts.kl)


def usable_kl(counts: SurfaceCounts, settings: OffsetSettings) -> Tensor:
    """[B, N] KL cut to [0, kl_cap]; 0 where not scored."""
    kl = torch.nan_to_num(counts.kl, nan=0.0).clamp(min=0.0)
    return kl if settings.kl_cap is None else kl.clamp(max=settings.kl_cap)


def offset(counts: SurfaceCounts, settings: OffsetSettings, alpha: Tensor) -> Tensor:
    """[B, N] logits; alpha: [B, 1]."""
    kl = usable_kl(counts, settings)
    if settings.kind is OffsetKind.JENSEN:
        return (kl - torch.nan_to_num(counts.kl_var, nan=0.0) / 2).clamp(min=0.0)
    if settings.kind is OffsetKind.CONCAVE:
        return alpha * settings.concave_scale * torch.log1p(kl / settings.concave_scale)
    return alpha * kl


def constraint_variance(counts: SurfaceCounts, settings: OffsetSettings, sigma_is: Tensor) -> Tensor:
    """[B, N] variance s^2 of g(c,0) - g(c,N) about minus the offset; sigma_is: [B, 1]."""
    slope = (usable_kl(counts, settings) * settings.sigma_slope) ** 2
    extra = torch.nan_to_num(counts.kl_var, nan=0.0) if settings.kind is OffsetKind.JENSEN else 0.0
    return sigma_is**2 + slope + extra
