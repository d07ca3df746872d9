"""Fitting the allocation model: hyperparameters by maximum a posteriori."""

from __future__ import annotations

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from foreshock.analysis.adaptive.model import Blocks, fit_blocks
from foreshock.analysis.adaptive.parameters import CENTERS, WIDTHS, log_prior
from foreshock.analysis.evidence.evidence import Floats

_MAX_ITERATIONS = 60


def optimise(blocks: Blocks, start: Floats | None = None, max_iterations: int = _MAX_ITERATIONS) -> Floats:
    """Hyperparameters that maximise evidence times prior: [P]."""
    warm: list[Tensor | None] = [None]

    def negative(unit: Floats) -> tuple[float, Floats]:
        u = torch.tensor(unit, dtype=torch.float64, requires_grad=True)
        theta = CENTERS + WIDTHS * u
        fit, evidence = fit_blocks(blocks, theta, warm[0])
        warm[0] = fit.whitened.detach()
        loss = -(evidence + log_prior(theta))
        torch.autograd.backward(loss)
        assert u.grad is not None
        return float(loss.detach()), u.grad.numpy().copy()

    first = np.zeros(len(CENTERS)) if start is None else (start - CENTERS.numpy()) / WIDTHS.numpy()
    bounds = [(-4.0, 4.0)] * len(first)
    result = optimize.minimize(
        negative, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iterations, "ftol": 1e-7}
    )
    return np.asarray(CENTERS.numpy() + WIDTHS.numpy() * result.x)
