"""Laplace approximation of the growth model, for many hyperparameter settings in one pass.

The model is binomial with a linear predictor eta = offset + X u_j + Z g + e and standard normal unknowns: u_j
per surface, g shared, e per prefilled cell. The Hessian is an arrow (blocks H_j on the diagonal, a border for g,
a diagonal for e), so e and then the u_j are eliminated exactly and one Newton step costs J small Cholesky factors.

E stays an unknown of the Laplace approximation instead of a scaled-down sample size; overdispersed prefilled cells
then lose weight only as far as the data say so. Every step is halved until the objective rises: undamped Newton
diverges on such surfaces. Source: Rasmussen and Williams (2006), section 3.4, with the block elimination of a
generalised linear mixed model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from foreshock.analysis.forecast.design import Array, Design, GrowthData

MAX_STEPS = 60
MAX_HALVINGS = 30
LEAST_GAIN = 0.25
"""Of what the slope promises, for a step to be taken."""
TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True)
class Mode:
    """Posterior mode and curvature of each setting b.

    local [B, J, P], shared [B, G]; chol_local [B, J, P, P] and chol_shared [B, G, G] lower factors of the
    Hessian's diagonal blocks after elimination; border [B, J, P, G] = H_uu^-1 H_ug. log_evidence [B], in nats,
    binomial coefficients left out. gradient [B]: largest absolute derivative left at the mode.
    """

    local: Array
    shared: Array
    chol_local: Array
    chol_shared: Array
    border: Array
    log_evidence: Array
    gradient: Array


@dataclass(slots=True)
class _Point:
    local: Array
    shared: Array
    noise: Array
    eta: Array
    value: Array


def _objective(data: GrowthData, design: Design, local: Array, shared: Array, noise: Array, eta: Array) -> Array:
    """Log posterior density up to a constant; `noise` is in units of its sd."""
    likelihood = (data.k * eta - data.n * np.logaddexp(0.0, eta)).sum((-1, -2))
    penalty = (local**2).sum((-1, -2)) + (shared**2).sum(-1) + (noise**2).sum((-1, -2))
    return np.asarray(likelihood - 0.5 * penalty)


def _eta(design: Design, local: Array, shared: Array, noise: Array) -> Array:
    shared_part = np.matmul(design.shared, shared[:, None, :, None])[..., 0]
    return np.asarray(
        design.offset + np.matmul(design.local, local[..., None])[..., 0] + shared_part + design.noise_sd * noise
    )


@dataclass(frozen=True, slots=True)
class _Curvature:
    """Factored Hessian and the gradient, after the cell noise is eliminated."""

    chol_local: Array
    shared_hessian: Array
    chol_shared: Array
    border: Array
    grad_local: Array
    own_step: Array
    grad_shared: Array
    grad_noise: Array
    weight: Array
    noise_precision: Array


def _curvature(design: Design, point: _Point, weight: Array, residual: Array) -> _Curvature:
    """Of the binomial likelihood whose second derivative in eta is -`weight` and whose first is `residual`."""
    sd = design.noise_sd
    grad_noise = sd * residual - point.noise
    precision = 1.0 + sd**2 * weight
    kept = weight / precision
    # Eliminating e leaves this residual in the equations for u and g.
    moved = residual - weight * sd * grad_noise / precision
    local_t = np.swapaxes(design.local, -1, -2)
    shared_t = np.swapaxes(design.shared, -1, -2)
    weighted_shared = kept[..., None] * design.shared
    h_local = np.matmul(local_t, kept[..., None] * design.local) + np.eye(design.local.shape[-1])
    h_border = np.matmul(local_t, weighted_shared)
    h_shared = np.matmul(shared_t, weighted_shared).sum(1) + np.eye(design.shared.shape[-1])
    grad_local = np.matmul(local_t, moved[..., None])[..., 0] - point.local
    solved = np.linalg.solve(h_local, np.concatenate([h_border, grad_local[..., None]], axis=-1))
    border, own_step = solved[..., :-1], solved[..., -1]
    schur = h_shared - np.matmul(np.swapaxes(h_border, -1, -2), border).sum(1)
    grad_shared = np.matmul(shared_t, moved[..., None])[..., 0].sum(1) - point.shared
    return _Curvature(
        np.linalg.cholesky(h_local), schur, np.linalg.cholesky(schur), border, grad_local, own_step, grad_shared,
        grad_noise, weight, precision,
    )  # fmt: skip


def _direction(design: Design, curve: _Curvature) -> tuple[Array, Array, Array]:
    shared_right = curve.grad_shared - np.einsum("bjpg,bjp->bg", curve.border, curve.grad_local)
    step_shared = np.linalg.solve(curve.shared_hessian, shared_right[..., None])[..., 0]
    step_local = curve.own_step - np.einsum("bjpg,bg->bjp", curve.border, step_shared)
    step_eta = (
        np.matmul(design.local, step_local[..., None])[..., 0]
        + np.matmul(design.shared, step_shared[:, None, :, None])[..., 0]
    )
    step_noise = (curve.grad_noise - design.noise_sd * curve.weight * step_eta) / curve.noise_precision
    return step_local, step_shared, step_noise


def _at(data: GrowthData, design: Design, local: Array, shared: Array, noise: Array) -> _Point:
    eta = _eta(design, local, shared, noise)
    return _Point(local, shared, noise, eta, _objective(data, design, local, shared, noise, eta))


def _start(data: GrowthData, design: Design) -> _Point:
    """Weighted least squares on the observed logits, as generalised linear models begin (McCullagh and Nelder 1989,
    section 2.5). From zero, Newton climbs the logistic function's tail by about one logit a step."""
    n_settings, n_surfaces, depth, width = design.local.shape
    local, shared = np.zeros((n_settings, n_surfaces, width)), np.zeros((n_settings, design.shared.shape[-1]))
    zero = _at(data, design, local, shared, np.zeros((n_settings, n_surfaces, depth)))
    rate = (data.k + 0.5) / (data.n + 1)
    weight = np.broadcast_to(data.n * rate * (1 - rate), zero.eta.shape)
    residual = data.k - data.n * rate + weight * (logit(rate) - zero.eta)
    return _at(data, design, *_direction(design, _curvature(design, zero, weight, residual)))


def find_mode(data: GrowthData, design: Design) -> Mode:
    """Damped Newton; raises ArithmeticError when a setting does not converge."""
    point = _start(data, design)
    for _ in range(MAX_STEPS):
        p = expit(point.eta)
        residual = data.k - data.n * p
        curve = _curvature(design, point, data.n * p * (1 - p), residual)
        gradient = np.maximum(
            np.abs(curve.grad_shared).max(-1),
            np.maximum(_full_local_gradient(design, point, residual), np.abs(curve.grad_noise).max((-1, -2))),
        )
        if gradient.max() < TOLERANCE:
            return _mode(design, point, curve, gradient)
        point = _advance(data, design, point, curve, residual, gradient)
    raise ArithmeticError(
        f"the growth model's mode was not found in {MAX_STEPS} Newton steps (gradient {gradient.max():.2g}); "
        "check the cell table for counts or KL values out of range"
    )


def _full_local_gradient(design: Design, point: _Point, residual: Array) -> Array:
    local = np.matmul(np.swapaxes(design.local, -1, -2), residual[..., None])[..., 0] - point.local
    return np.asarray(np.abs(local).max((-1, -2)))


def _advance(
    data: GrowthData, design: Design, point: _Point, curve: _Curvature, residual: Array, gradient: Array
) -> _Point:
    """One Newton step, halved until it gains a fixed share of what the slope promises (Armijo's rule).

    Any gain at all would not do: far from the mode whole steps leap into the flat tails of the logistic function and
    back, gaining a little each time.
    """
    step_local, step_shared, step_noise = _direction(design, curve)
    step_eta = _eta(design, step_local, step_shared, step_noise) - design.offset
    slope = (
        (residual * step_eta).sum((-1, -2))
        - (point.local * step_local).sum((-1, -2))
        - (point.shared * step_shared).sum(-1)
        - (point.noise * step_noise).sum((-1, -2))
    )
    scale = np.ones(len(point.value))
    settled = gradient < TOLERANCE
    for _ in range(MAX_HALVINGS):
        moved = _at(
            data,
            design,
            point.local + scale[:, None, None] * step_local,
            point.shared + scale[:, None] * step_shared,
            point.noise + scale[:, None, None] * step_noise,
        )
        # Close to the mode the gain drowns in rounding; a tiny loss is accepted there.
        wanted = point.value + LEAST_GAIN * scale * slope - 1e-9 * (1 + np.abs(point.value))
        worse = (moved.value < wanted) & ~settled
        if not worse.any():
            break
        scale = np.where(worse, 0.5 * scale, scale)
    return moved


def _mode(design: Design, point: _Point, curve: _Curvature, gradient: Array) -> Mode:
    log_det = (
        2 * np.log(np.diagonal(curve.chol_local, axis1=-2, axis2=-1)).sum((-1, -2))
        + 2 * np.log(np.diagonal(curve.chol_shared, axis1=-2, axis2=-1)).sum(-1)
        + np.log(curve.noise_precision).sum((-1, -2))
    )
    return Mode(
        local=point.local,
        shared=point.shared,
        chol_local=curve.chol_local,
        chol_shared=curve.chol_shared,
        border=curve.border,
        log_evidence=point.value - 0.5 * log_det,
        gradient=gradient,
    )
