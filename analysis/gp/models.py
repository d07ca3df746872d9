"""The three Gaussian-process models of the exploit rate, as one batched module.

    ExploitRateGP             f = mu(t) + g(t, w), g ~ GP over (log step, level)
    ExploitRateOffsetGP       f = mu + g(t) + offset(KL): one process over checkpoints, lifted by each cell's KL
    ExploitRateConstrainedGP  as ExploitRateGP, with g(c,0) - g(c,N) ~ Normal(-offset(KL), s^2) at every checkpoint

with k ~ Binomial(n, sigmoid(f)) in all. The soft constraints are part of the prior,
    p(g | constraints) = N(g | 0, K) prod N(g(c,0) - g(c,N) | -offset, s^2) / Z(alpha, sigma_IS),
which is Gaussian again. It is formed exactly before Laplace (the same mode as Newton with H = diag(W) + P + K^-1),
and the evidence is that of the counts under this normalised prior. Leaving out Z makes an optimised sigma_IS run to
its lower bound: tightening a factor that is never normalised always raises the product.

Kernels are GPyTorch's Matern-5/2; every surface has its own hyperparameters and they are fitted in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import gpytorch
import torch
from torch import Tensor

from foreshock.analysis.gp.counts import LevelScale, SurfaceCounts, grid_inputs
from foreshock.analysis.gp.laplace import LaplaceFit, condition, laplace
from foreshock.analysis.gp.means import MeanKind, RateMean
from foreshock.analysis.gp.offsets import OffsetKind, OffsetSettings, constraint_variance, offset, scored

_TINY = 1e-30  # keeps the gradient of the square root finite at distance 0, where it does not matter
JITTER = 1e-6
"""Added to the kernel's diagonal once, as part of the model, wherever the kernel appears."""


class ModelKind(StrEnum):
    """Names of the models."""

    PLAIN = "gp"
    OFFSET = "offset"
    CONSTRAINED = "constrained"


@dataclass(frozen=True, slots=True)
class GPSettings:
    """Which model. `joint` fits the kernel under the constraints too instead of in two stages (it weakens the
    kernel); `fit_offset` optimises alpha and sigma_IS in the second stage."""

    model: ModelKind = ModelKind.PLAIN
    mean: MeanKind = MeanKind.CONSTANT
    level_scale: LevelScale = LevelScale.WARPED
    offset: OffsetSettings = field(default_factory=OffsetSettings)
    joint: bool = False
    fit_offset: bool = False

    def __post_init__(self) -> None:
        if self.model is ModelKind.OFFSET and self.mean is not MeanKind.CONSTANT:
            raise ValueError(f"the offset model has a constant mean only, not {self.mean.value!r}")
        if self.model is ModelKind.OFFSET and self.offset.kind is OffsetKind.JENSEN:
            raise ValueError("the offset model takes a linear or concave offset, not 'jensen'")


class RateModel(gpytorch.Module):  # type: ignore[misc]  # gpytorch has no types
    """Hyperparameters of B surfaces and the functions that give prior, evidence and posterior.

    log_variance, log_length_time, log_length_level: [B, 1]; log_alpha, log_sigma_is: [B, 1]. All unconstrained, with
    weak Gaussian priors (`log_prior`).
    """

    def __init__(self, settings: GPSettings, counts: SurfaceCounts):
        super().__init__()
        self.settings, self.counts = settings, counts
        batch = len(counts.surfaces)
        self.mean_module = RateMean(settings.mean, batch)
        dims = 1 if settings.model is ModelKind.OFFSET else 2
        self.kernel = gpytorch.kernels.ScaleKernel(
            gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=dims, batch_shape=torch.Size([batch])),
            batch_shape=torch.Size([batch]),
        )
        self.kernel.outputscale = 4.0
        self.kernel.base_kernel.lengthscale = 1.0
        start = settings.offset
        self.register_parameter("log_alpha", torch.nn.Parameter(torch.full((batch, 1), start.alpha).log()))
        self.register_parameter("log_sigma_is", torch.nn.Parameter(torch.full((batch, 1), start.sigma_is).log()))
        self.double()
        # The start values of alpha and sigma_IS are the user's; keep all their digits.
        with torch.no_grad():
            self.log_alpha.fill_(torch.tensor(start.alpha, dtype=torch.float64).log())
            self.log_sigma_is.fill_(torch.tensor(start.sigma_is, dtype=torch.float64).log())

    def inputs(self) -> Tensor:
        """Kernel inputs of the latent values: [N, 2], or [C, 1] for the offset model (unique checkpoints)."""
        x = grid_inputs(self.counts.steps, self.counts.levels, self.counts.steps, self.settings.level_scale)
        if self.settings.model is ModelKind.OFFSET:
            return x[:: len(self.counts.levels), :1]
        return x

    def covariance(self, left: Tensor, right: Tensor) -> Tensor:
        """[B, len(left), len(right)] Matern-5/2 kernel matrix without jitter.

        Distances are differences, not gpytorch's expansion x^2 + y^2 - 2xy: with one length scale small that loses
        as many digits as the jitter can make up for, and the matrix is then not positive definite.
        """
        scale = torch.as_tensor(self.kernel.base_kernel.lengthscale).unsqueeze(-2)
        squared = ((left.unsqueeze(-2) - right.unsqueeze(-3)) / scale).square().sum(-1)
        distance = (5.0 * squared).clamp_min(_TINY).sqrt()
        shape = (1.0 + distance + distance.square() / 3.0) * torch.exp(-distance)
        return torch.as_tensor(self.kernel.outputscale).reshape(-1, 1, 1) * shape

    def prior_root(self) -> Tensor:
        """[B, M, M] Cholesky factor of K + jitter over the latent values.

        The jitter is relative to the kernel's variance: an absolute one vanishes beside a large variance, and the
        factorisation then fails where length scales are long too.
        """
        x = self.inputs()
        covariance = self.covariance(x, x)
        jitter = JITTER * torch.as_tensor(self.kernel.outputscale).reshape(-1, 1, 1)
        return torch.as_tensor(torch.linalg.cholesky(covariance + jitter * torch.eye(len(x), dtype=covariance.dtype)))

    def fit(self, constrained: bool, start: Tensor | None = None) -> tuple[LaplaceFit, Tensor]:
        """Laplace posterior of f at the cells, and log evidence [B] of the counts."""
        counts = self.counts
        grid = grid_inputs(counts.steps, counts.levels, counts.steps, self.settings.level_scale)
        mean = self.mean_module(grid).expand(len(counts.surfaces), -1)
        root = self.prior_root()
        n, k = counts.n, counts.k
        if self.settings.model is ModelKind.OFFSET:
            mean = mean + offset(counts, self.settings.offset, self.log_alpha.exp())
            root = root.repeat_interleave(len(counts.levels), dim=1)
            # A prefilled cell without a KL has an unknown offset: it cannot speak.
            n, k = n * scored(counts), k * scored(counts)
        elif constrained:
            shift, root = self._constrain(root)
            mean = mean + shift
        fit = laplace(mean, root, n, k, start)
        return fit, fit.evidence

    def _constrain(self, root: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, N] and root [B, N, N] of g under the constraints."""
        counts, settings = self.counts, self.settings.offset
        c, levels = counts.shape
        cell = torch.arange(c * levels).reshape(c, levels)
        above = [i for i in range(levels) if i != counts.level0]
        zero, prefilled = cell[:, [counts.level0]].expand(-1, len(above)).flatten(), cell[:, above].flatten()
        active = scored(counts)[:, prefilled].double()
        design = torch.zeros(len(counts.surfaces), len(prefilled), c * levels, dtype=root.dtype)
        rows = torch.arange(len(prefilled))
        design[:, rows, zero], design[:, rows, prefilled] = active, -active
        target = -offset(counts, settings, self.log_alpha.exp())[:, prefilled] * active
        variance = constraint_variance(counts, settings, self.log_sigma_is.exp())[:, prefilled]
        variance = torch.where(active > 0, variance, torch.ones_like(variance))
        given = condition(torch.zeros_like(root[..., 0]), root, design, target, torch.diag_embed(variance.sqrt()))
        return given.mean, given.root

    def log_prior(self) -> Tensor:
        """[B] weak Gaussian priors on the unconstrained scale, up to a constant."""
        outer = torch.as_tensor(self.kernel.outputscale).reshape(-1, 1).log()
        lengths = torch.as_tensor(self.kernel.base_kernel.lengthscale).flatten(1).log()
        total = -0.5 * (((outer - 1.4) / 1.0) ** 2).sum(-1) - 0.5 * ((lengths / 0.7) ** 2).sum(-1)
        for name, value in self.mean_module.named_parameters():
            center, width = {"level": (-3.0, 3.0), "rise": (0.0, 2.5), "gamma": (1.0, 1.0)}[name]
            total = total - 0.5 * (((value - center) / width) ** 2).sum(-1)
        alpha, sigma = self.log_alpha - self._start(self.settings.offset.alpha), self.log_sigma_is
        sigma = sigma - self._start(self.settings.offset.sigma_is)
        return torch.as_tensor(total - 0.5 * alpha.square().sum(-1) - 0.5 * sigma.square().sum(-1))

    @staticmethod
    def _start(value: float) -> float:
        return float(torch.tensor(value, dtype=torch.float64).log())
