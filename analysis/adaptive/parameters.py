"""Hyperparameters of the allocation model: names, transforms and weak priors in one table.

Every hyperparameter has a Gaussian prior on its unconstrained scale, wide enough to be moved by one experiment, so
that a sweep with three exploit types or no direct success at all still has an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Parameter:
    """`center` and `width` of the Gaussian prior; on the log scale when `positive`, the logit scale when `share`."""

    name: str
    center: float
    width: float
    positive: bool = False
    share: bool = False


def _scale(name: str, typical: float, width: float) -> Parameter:
    return Parameter(name, float(torch.tensor(typical).log()), width, positive=True)


PARAMETERS: tuple[Parameter, ...] = (
    # The logit of the unprompted rate over scaled log step x in [0, 1].
    Parameter("level", -8.0, 3.0),
    Parameter("slope", 2.0, 2.0),
    _scale("type_sd", 1.5, 0.6),
    _scale("surface_sd", 1.0, 0.6),
    _scale("slope_sd", 2.5, 0.5),
    _scale("bend_sd", 1.0, 0.5),
    _scale("bend_length", 0.4, 0.4),
    # Errors of the importance-sampling measurements.
    Parameter("bias", -0.1, 0.3),
    Parameter("bias_per_spread", 0.0, 0.1),
    Parameter("bias_per_maturity", 0.2, 0.2),
    Parameter("coverage_share", 0.5, 0.25),
    _scale("type_bias_sd", 0.6, 0.3),
    _scale("surface_bias_sd", 0.35, 0.2),
    _scale("type_spread_sd", 0.30, 0.1),
    _scale("luck_scale", 1.1, 0.15),
    Parameter("luck_shared", 1.5, 0.4, share=True),
    _scale("luck_length", 1.0, 0.2),
    _scale("noise_sd", 0.3, 0.5),
)
CENTERS = torch.tensor([p.center for p in PARAMETERS], dtype=torch.float64)
WIDTHS = torch.tensor([p.width for p in PARAMETERS], dtype=torch.float64)


def unpack(theta: Tensor) -> dict[str, Tensor]:
    """Natural values by name from the unconstrained vector [len(PARAMETERS)]."""
    values = {}
    for i, p in enumerate(PARAMETERS):
        value = theta[..., i]
        values[p.name] = value.exp() if p.positive else value.sigmoid() if p.share else value
    return values


def log_prior(theta: Tensor) -> Tensor:
    """Log prior density up to a constant."""
    return -0.5 * (((theta - CENTERS) / WIDTHS) ** 2).sum(-1)
