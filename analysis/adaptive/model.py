"""The joint model of direct counts and importance-sampling measurements.

For exploit type t, run r and scaled log step x in [0, 1]:
    F_tr(x) = level + slope x + a_t + b_tr + s_tr x + g_tr(x)        logit of the unprompted rate
    k_tr(x) ~ Binomial(n, sigmoid(F_tr(x)))                            attempts without prefill
    y_trN(x) = F_tr(x) + bias + bias_per_spread v/2 + bias_per_maturity u + coverage_share o
               + d_t + e_t v/2 + d_tr + luck_tN(x) + noise
with Gaussian a, b, s, d, e, a Matern-5/2 process g, and y, v, u and o (coverage) from adaptive/rows.py. `luck` is the
error of having few donor traces. All runs, checkpoints and levels score the same traces, so it is one smooth process a
type, not fresh noise in every cell: correlated over levels as a Brownian motion in its variance (a level's words
contain the shorter level's) and over checkpoints as exp(-|x - x'| / length).

The correlation is modelled instead of averaging the levels. It lets a type whose rate is seen directly at some
checkpoint tell how wrong its traces are, and so corrects that type's zero cells in all runs. Types are independent
given the hyperparameters: one batch item per type, R x C latent values in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foreshock.analysis.adaptive.parameters import unpack
from foreshock.analysis.adaptive.rows import MeasurementRows
from foreshock.analysis.evidence.evidence import DonorKind, Evidence, Ints, type_index
from foreshock.analysis.gp.laplace import ConditionedPrior, LaplaceFit, condition, laplace

_JITTER = 1e-6
_UNCORRECTED_SCALE = 3.0
_UNCORRECTED_BIAS = 1.0
_ACROSS_RUNS = 0.7
_PADDING_NOISE = 1.0
# Of the measurements' own evidence in the choice of hyperparameters. They share their traces, so they agree with each
# other far better than with the truth; taken at full weight they would talk the model into trusting them. What counts
# in full is how well they predict the direct counts.
MEASUREMENT_POWER = 0.1
_MEASURED = ("y", "spread", "count_var", "luck_var", "maturity", "coverage")


@dataclass(frozen=True, slots=True)
class Blocks:
    """Evidence padded to one batch item per type. T types, B latent values, M measurements.

    x: [T, B] scaled log step; run: [T, B] run code, -1 where padded; n, k: [T, B] direct counts;
    surface, checkpoint: [T, B] indices back into the Evidence (-1 where padded);
    cell: [T, M] latent index of each measurement; y, spread, count_var, luck_var, maturity, coverage: [T, M];
    row: [T, M] index of each measurement in its MeasurementRows, -1 where padded;
    real: [T, M] 1 for a measurement, 0 for padding;
    uncorrected: the source kept only exploits and the factor pi / a of the weights is unknown.
    """

    x: Tensor
    run: Tensor
    n: Tensor
    k: Tensor
    surface: Ints
    checkpoint: Ints
    cell: Tensor
    y: Tensor
    spread: Tensor
    count_var: Tensor
    luck_var: Tensor
    maturity: Tensor
    coverage: Tensor
    real: Tensor
    row: Ints
    uncorrected: bool = False


def scaled_log_steps(steps: Tensor) -> Tensor:
    """Log step mapped to [0, 1]; all zero for a single checkpoint. Step 0 counts as half the first positive step."""
    positive = steps[steps > 0]
    floor = float(positive.min()) / 2 if len(positive) else 1.0
    x = steps.clamp(min=floor).log()
    width = float(x.max() - x.min())
    return (x - x.min()) / width if width > 0 else torch.zeros_like(x)


def _float(array: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float64))


def build_blocks(evidence: Evidence, rows: MeasurementRows) -> Blocks:
    """Arrange evidence by type. Cells without a direct attempt stay as latent values with n = 0."""
    kinds = type_index(evidence)
    runs = sorted({surface.run for surface in evidence.surfaces})
    n0, k0 = evidence.direct()
    n_types, n_checks = int(kinds.max()) + 1, len(evidence.steps)
    members = [np.flatnonzero(kinds == t) for t in range(n_types)]
    width = max(len(m) for m in members) * n_checks
    shape = (n_types, width)
    surface, checkpoint = np.full(shape, -1, dtype=np.int64), np.full(shape, -1, dtype=np.int64)
    run, position = np.full(shape, -1, dtype=np.int64), np.zeros((len(kinds), n_checks), dtype=np.int64)
    for t, member in enumerate(members):
        for i, j in enumerate(member):
            span = slice(i * n_checks, (i + 1) * n_checks)
            surface[t, span], checkpoint[t, span] = j, np.arange(n_checks)
            run[t, span] = runs.index(evidence.surfaces[j].run)
            position[j] = np.arange(i * n_checks, (i + 1) * n_checks)
    padded = surface < 0
    n, k = n0[surface, checkpoint] * ~padded, k0[surface, checkpoint] * ~padded
    x = scaled_log_steps(_float(evidence.steps))[torch.as_tensor(np.maximum(checkpoint, 0))]
    counts = np.bincount(rows.type, minlength=n_types) if len(rows) else np.zeros(n_types, dtype=np.int64)
    most = max(int(counts.max()), 1)
    columns = {name: np.zeros((n_types, most)) for name in ("cell", "real", *_MEASURED)}
    row = np.full((n_types, most), -1, dtype=np.int64)
    for t in range(n_types):
        mine = np.flatnonzero(rows.type == t)
        span = slice(0, len(mine))
        columns["cell"][t, span] = position[rows.surface[mine], rows.checkpoint[mine]]
        columns["real"][t, span] = 1.0
        row[t, span] = mine
        for name in _MEASURED:
            columns[name][t, span] = getattr(rows, name)[mine]
    uncorrected = evidence.donor is DonorKind.CONDITIONED_UNCORRECTED
    tensors = {name: _float(column) for name, column in columns.items() if name != "cell"}
    cell = torch.as_tensor(columns["cell"].astype(np.int64))
    return Blocks(
        x,
        torch.as_tensor(run),
        _float(n),
        _float(k),
        surface,
        checkpoint,
        cell=cell,
        uncorrected=uncorrected,
        row=row,
        **tensors,
    )


def _matern52(distance: Tensor) -> Tensor:
    scaled = 5**0.5 * distance
    return (1 + scaled + scaled**2 / 3) * torch.exp(-scaled)


def prior(blocks: Blocks, h: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean [T, B] and covariance root [T, B, B] of F."""
    x, run = blocks.x, blocks.run
    same = (run.unsqueeze(-1) == run.unsqueeze(-2)).double()
    product = x.unsqueeze(-1) * x.unsqueeze(-2)
    distance = (x.unsqueeze(-1) - x.unsqueeze(-2)).abs() / h["bend_length"]
    within = h["surface_sd"] ** 2 + h["slope_sd"] ** 2 * product + h["bend_sd"] ** 2 * _matern52(distance)
    covariance = h["type_sd"] ** 2 + same * within
    covariance = covariance + _JITTER * torch.eye(x.shape[-1], dtype=x.dtype)
    return h["level"] + h["slope"] * x, torch.linalg.cholesky(covariance)


def shared_noise(blocks: Blocks, h: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Covariance [T, M, M] of the measurements' common errors, and variance [T, M] of those of one cell alone."""
    x = blocks.x.gather(1, blocks.cell)
    run = blocks.run.gather(1, blocks.cell)
    same = (run.unsqueeze(-1) == run.unsqueeze(-2)).double()
    decay = torch.exp(-(x.unsqueeze(-1) - x.unsqueeze(-2)).abs() / h["luck_length"])
    luck = h["luck_scale"] ** 2 * blocks.luck_var.clamp(min=1e-12)
    half = h["type_spread_sd"] * blocks.spread / 2
    shared = h["luck_shared"] * torch.minimum(luck.unsqueeze(-1), luck.unsqueeze(-2))
    shared = shared + torch.minimum(half.unsqueeze(-1), half.unsqueeze(-2)) ** 2
    shared = shared * decay * (_ACROSS_RUNS + (1 - _ACROSS_RUNS) * same)
    widen = _UNCORRECTED_SCALE if blocks.uncorrected else 1.0
    shared = shared + (widen * h["type_bias_sd"]) ** 2 + same * h["surface_bias_sd"] ** 2
    shared = shared * blocks.real.unsqueeze(-1) * blocks.real.unsqueeze(-2)
    return shared, h["noise_sd"] ** 2 + (1 - h["luck_shared"]) * luck


def measurement_noise(blocks: Blocks, h: dict[str, Tensor]) -> Tensor:
    """Cholesky factor [T, M, M] of the measurements' error covariance."""
    shared, alone = shared_noise(blocks, h)
    alone = torch.where(blocks.real > 0, blocks.count_var + alone, _PADDING_NOISE)
    return torch.as_tensor(torch.linalg.cholesky(shared + torch.diag_embed(alone)))


def expected_shift(blocks: Blocks, h: dict[str, Tensor]) -> Tensor:
    """What a measurement is expected to add to F: [T, M]."""
    bias = h["bias"]
    if blocks.uncorrected:
        # The missing log(pi / a) is negative and differs by type: about -0.8 for a donor that exploits in 4 of 10.
        bias = _UNCORRECTED_SCALE * bias + _UNCORRECTED_BIAS
    shift = bias + h["bias_per_spread"] * blocks.spread / 2 + h["bias_per_maturity"] * blocks.maturity
    return torch.as_tensor(shift + h["coverage_share"] * blocks.coverage)


def design(blocks: Blocks) -> Tensor:
    """Which latent value a measurement is of: [T, M, B]."""
    return torch.nn.functional.one_hot(blocks.cell, blocks.x.shape[-1]).double() * blocks.real.unsqueeze(-1)


def given_measurements(blocks: Blocks, h: dict[str, Tensor]) -> ConditionedPrior:
    """F given the measurements alone, no direct count seen: what the backtest scores."""
    mean, root = prior(blocks, h)
    y = torch.where(blocks.real > 0, blocks.y - expected_shift(blocks, h), 0.0)
    return condition(mean, root, design(blocks), y, measurement_noise(blocks, h))


def fit_blocks(
    blocks: Blocks, theta: Tensor, start: Tensor | None = None, inflation: float = 1.0
) -> tuple[LaplaceFit, Tensor]:
    """Posterior of F given hyperparameters, and the total log evidence up to the padding's constant.

    `inflation` multiplies the standard deviation of F given the measurements before the direct counts are added
    (adaptive/backtest.py); the evidence is meaningful at 1 only.
    """
    given = given_measurements(blocks, unpack(theta))
    fit = laplace(given.mean, inflation * given.root, blocks.n, blocks.k, start)
    return fit, (MEASUREMENT_POWER * given.evidence + fit.evidence).sum()
