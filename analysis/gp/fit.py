"""Fitting the models: hyperparameters by maximum a posteriori with exact gradients, all surfaces in one batch.

L-BFGS sees the sum over surfaces. Their hyperparameters are separate, so the optimum of the sum is the optimum of
each, and one batched evaluation costs little more than one surface's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from foreshock.analysis.evidence.evidence import Floats
from foreshock.analysis.gp.counts import SurfaceCounts
from foreshock.analysis.gp.laplace import LaplaceFit
from foreshock.analysis.gp.models import GPSettings, ModelKind, RateModel

_MAX_ITERATIONS = 60


@dataclass(frozen=True, slots=True)
class GPFit:
    """A fitted model with its posterior. evidence: [B] log evidence at the optimum (nats)."""

    model: RateModel
    posterior: LaplaceFit
    evidence: Tensor


def fit_gp(counts: SurfaceCounts, settings: GPSettings) -> GPFit:
    """Fit all surfaces of `counts`.

    The constrained model is fitted in two stages (kernel and mean without constraints, then the mode under them)
    unless `settings.joint`.
    """
    model = RateModel(settings, counts)
    offset_parameters = [model.log_alpha, model.log_sigma_is]
    kernel_and_mean = [p for p in model.parameters() if all(p is not q for q in offset_parameters)]
    constrained = settings.model is ModelKind.CONSTRAINED
    if settings.model is ModelKind.OFFSET:
        _optimise(model, [*kernel_and_mean, model.log_alpha], constrained=False)
    elif not constrained:
        _optimise(model, kernel_and_mean, constrained=False)
    elif settings.joint:
        _optimise(model, [*kernel_and_mean, *offset_parameters], constrained=True)
    else:
        _optimise(model, kernel_and_mean, constrained=False)
        if settings.fit_offset:
            _optimise(model, offset_parameters, constrained=True)
    with torch.no_grad():
        posterior, evidence = model.fit(constrained)
    return GPFit(model, posterior, evidence)


def _optimise(model: RateModel, parameters: Sequence[torch.nn.Parameter], constrained: bool) -> None:
    sizes = [p.numel() for p in parameters]
    warm: list[Tensor | None] = [None]

    def load(flat: Floats) -> None:
        with torch.no_grad():
            for p, part in zip(parameters, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
                p.copy_(torch.as_tensor(part).reshape(p.shape))

    def negative(flat: Floats) -> tuple[float, Floats]:
        load(flat)
        for p in model.parameters():
            p.grad = None
        fit, evidence = model.fit(constrained, warm[0])
        warm[0] = fit.whitened.detach()
        loss = -(evidence + model.log_prior()).sum()
        torch.autograd.backward(loss)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        return float(loss.detach()), np.concatenate([g.numpy().ravel() for g in grads])

    first = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    # Raw scales beyond +-12 are exp(12) or exp(-12): no data can ask for them, and they break Cholesky.
    bounds = [(-12.0, 12.0)] * len(first)
    found = optimize.minimize(
        negative,
        np.clip(first, -12, 12),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _MAX_ITERATIONS, "ftol": 1e-7, "gtol": 1e-4},
    )
    load(found.x)
