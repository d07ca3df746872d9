"""The Laplace core: mode, evidence and gradients over the whole range of hyperparameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foreshock.analysis.evidence.evidence import Surface
from foreshock.analysis.gp.counts import SurfaceCounts
from foreshock.analysis.gp.fit import fit_gp
from foreshock.analysis.gp.laplace import condition, laplace
from foreshock.analysis.gp.means import MeanKind, tanh_ratio
from foreshock.analysis.gp.models import GPSettings, ModelKind, RateModel
from foreshock.analysis.gp.offsets import OffsetKind, OffsetSettings
from foreshock.analysis.gp.predict import predict

STEPS = np.array([1.0, 2, 5, 10, 20, 40, 60, 80, 100])
LEVELS = np.array([0, 2, 5, 10, 20, 30, 45, 60, 75, 100])


def make_counts(seed: int = 0, steps: np.ndarray = STEPS, levels: np.ndarray = LEVELS, batch: int = 1) -> SurfaceCounts:
    """Counts whose rate rises with step and level, with a KL that grows with the level."""
    rng = np.random.default_rng(seed)
    t, w = np.meshgrid(np.log(steps) - np.log(steps).mean(), np.log1p(levels / 5), indexing="ij")
    p = 1 / (1 + np.exp(-(-4 + 0.6 * t + 1.4 * w).ravel()))
    n = np.full((batch, p.size), 40.0)
    k = rng.binomial(40, np.broadcast_to(p, n.shape)).astype(float)
    kl = np.broadcast_to(0.1 * levels, t.shape).ravel()
    surfaces = tuple(Surface("run", f"type_{i}") for i in range(batch))
    tensors = [torch.as_tensor(np.broadcast_to(a, n.shape).copy()) for a in (n, k, kl, 0.3 * kl)]
    return SurfaceCounts(surfaces, steps, levels, *tensors)


def randomise(model: RateModel, rng: np.random.Generator) -> None:
    """Hyperparameters uniform over the box the optimiser searches, up to exp(+-6)."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.as_tensor(rng.uniform(-6, 6, tuple(p.shape))))


@pytest.mark.parametrize(
    ("kind", "draws"), [(ModelKind.PLAIN, 400), (ModelKind.OFFSET, 300), (ModelKind.CONSTRAINED, 300)]
)
def test_the_gradient_vanishes_at_the_mode_over_a_thousand_hyperparameter_draws(kind: ModelKind, draws: int) -> None:
    rng = np.random.default_rng(1)
    batch = 50
    mean = MeanKind.CONSTANT if kind is ModelKind.OFFSET else MeanKind.TANH
    for _ in range(draws // batch):
        model = RateModel(GPSettings(kind, mean), make_counts(batch=batch))
        randomise(model, rng)
        with torch.no_grad():
            fit, evidence = model.fit(constrained=kind is ModelKind.CONSTRAINED)
        assert float(fit.gradient.max()) < 1e-6
        assert torch.isfinite(evidence).all()


@pytest.mark.parametrize(
    "settings",
    [
        GPSettings(ModelKind.PLAIN, MeanKind.TANH),
        GPSettings(ModelKind.OFFSET, offset=OffsetSettings(OffsetKind.CONCAVE)),
        GPSettings(ModelKind.CONSTRAINED, MeanKind.LINEAR, offset=OffsetSettings(sigma_slope=0.1, kl_cap=6.0)),
        GPSettings(ModelKind.CONSTRAINED, offset=OffsetSettings(OffsetKind.JENSEN)),
    ],
    ids=lambda s: f"{s.model.value}-{s.offset.kind.value}",
)
def test_gradients_agree_with_finite_differences(settings: GPSettings) -> None:
    model = RateModel(settings, make_counts(seed=3))
    constrained = settings.model is ModelKind.CONSTRAINED
    rng = np.random.default_rng(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.as_tensor(rng.uniform(-0.4, 0.4, tuple(p.shape))))
    model.fit(constrained)[1].sum().backward()
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        step = 1e-5
        with torch.no_grad():
            flat = p.view(-1)
            for i in range(flat.numel()):
                value = float(flat[i])
                sides = []
                for sign in (1, -1):
                    flat[i] = value + sign * step
                    sides.append(float(model.fit(constrained)[1].sum()))
                flat[i] = value
                numeric = (sides[0] - sides[1]) / (2 * step)
                exact = float(p.grad.view(-1)[i])
                assert exact == pytest.approx(numeric, rel=1e-5, abs=1e-5), name


@pytest.mark.parametrize("kind", list(ModelKind))
def test_without_data_the_evidence_is_that_of_nothing(kind: ModelKind) -> None:
    counts = make_counts()
    empty = SurfaceCounts(counts.surfaces, STEPS, LEVELS, counts.n * 0, counts.k * 0, counts.kl, counts.kl_var)
    model = RateModel(GPSettings(kind), empty)
    with torch.no_grad():
        _, evidence = model.fit(constrained=kind is ModelKind.CONSTRAINED)
    assert float(evidence) == pytest.approx(0.0, abs=1e-6)


def test_conditioning_on_gaussian_rows_has_the_closed_form_evidence() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(torch.eye(6, dtype=torch.float64) + 0.3)
    design = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    y = torch.randn(4, generator=generator, dtype=torch.float64)
    noise = torch.diag(torch.tensor([0.3, 0.5, 1.0, 2.0], dtype=torch.float64))
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64)
    given = condition(mean[None], root[None], design[None], y[None], noise[None])
    covariance = design @ root @ root.T @ design.T + noise @ noise.T
    exact = torch.distributions.MultivariateNormal(design @ mean, covariance).log_prob(y)
    assert float(given.evidence) == pytest.approx(float(exact), abs=1e-9)
    gain = root @ root.T @ design.T @ torch.linalg.inv(covariance)
    assert torch.allclose(given.mean[0], mean + gain @ (y - design @ mean), atol=1e-9)


def test_one_cell_has_the_evidence_of_a_one_dimensional_laplace_integral() -> None:
    n, k, mean, sd = 20.0, 3.0, -1.0, 1.5
    args = [torch.tensor([[v]], dtype=torch.float64) for v in (mean, n, k)]
    fit = laplace(args[0], torch.tensor([[[sd]]], dtype=torch.float64), args[1], args[2])
    f = np.linspace(-12, 8, 200_001)
    log_joint = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * f - n * np.logaddexp(0, f)
        - 0.5 * ((f - mean) / sd) ** 2 - math.log(sd * math.sqrt(2 * math.pi))
    )  # fmt: skip
    exact = math.log(np.trapezoid(np.exp(log_joint), f))
    # Laplace is an approximation; it is within a few hundredths of a nat for 3 of 20.
    assert float(fit.evidence) == pytest.approx(exact, abs=0.03)
    assert float(fit.mode) == pytest.approx(f[log_joint.argmax()], abs=1e-3)


def test_the_mode_under_constraints_is_the_direct_maximum_of_likelihood_prior_and_constraints() -> None:
    counts = make_counts(seed=2, steps=np.array([1.0, 10, 100]), levels=np.array([0, 10, 100]))
    settings = GPSettings(ModelKind.CONSTRAINED, offset=OffsetSettings(sigma_is=0.7, sigma_slope=0.05))
    model = RateModel(settings, counts)
    with torch.no_grad():
        fit, _ = model.fit(constrained=True)
        mean = model.mean_module(model.inputs())[0]
        root = model.prior_root()[0]
    f = fit.mode[0].clone().requires_grad_(True)
    g = f - mean
    white = torch.linalg.solve_triangular(root, g[:, None], upper=False)
    objective = (counts.k[0] * f - counts.n[0] * torch.nn.functional.softplus(f)).sum() - 0.5 * white.square().sum()
    grid, kl = g.reshape(3, 3), counts.kl[0].reshape(3, 3)
    residual = grid[:, :1] - grid[:, 1:] + 0.15 * kl[:, 1:]
    objective = objective - 0.5 * (residual.square() / (0.7**2 + (0.05 * kl[:, 1:]) ** 2)).sum()
    objective.backward()
    assert f.grad is not None
    assert float(f.grad.abs().max()) < 1e-5


def test_tanh_tends_to_the_line_and_its_gamma_moves() -> None:
    t = torch.linspace(-1, 1, 21, dtype=torch.float64)
    for g in (0.0, 1e-6, 9.9e-3, 1.01e-2):
        assert torch.allclose(tanh_ratio(t, torch.tensor(g, dtype=torch.float64)), t, atol=5e-5)
    steps = np.geomspace(1, 1000, 12)
    counts = make_counts(steps=steps, levels=np.array([0]))
    rate = 1 / (1 + np.exp(-(-3 + 3 * np.tanh(4 * np.linspace(-1, 1, 12)))))
    k = torch.as_tensor(np.round(400 * rate))[None]
    sharp = SurfaceCounts(counts.surfaces, steps, counts.levels, torch.full_like(k, 400.0), k, counts.kl, counts.kl_var)
    fitted = fit_gp(sharp, GPSettings(mean=MeanKind.TANH)).model.mean_module.gamma.detach()
    assert abs(float(fitted) - 1.0) > 0.1


def test_a_batch_gives_each_surface_the_fit_it_has_alone() -> None:
    counts = make_counts(seed=7, batch=3)
    together = fit_gp(counts, GPSettings())
    for i in range(3):
        parts = [t[i : i + 1] for t in (counts.n, counts.k, counts.kl, counts.kl_var)]
        alone = fit_gp(SurfaceCounts(counts.surfaces[i : i + 1], STEPS, LEVELS, *parts), GPSettings())
        assert float(together.evidence[i]) == pytest.approx(float(alone.evidence), abs=0.05)


@pytest.mark.parametrize("kind", list(ModelKind))
def test_single_cells_and_single_checkpoints_are_fitted(kind: ModelKind) -> None:
    counts = make_counts(steps=np.array([50.0]), levels=np.array([0, 10]))
    prediction = predict(fit_gp(counts, GPSettings(kind)), levels=np.array([0]))
    assert np.isfinite(prediction.logit_mean).all()
    assert (prediction.logit_sd > 0).all()


def test_checkpoints_that_nearly_coincide_are_fitted() -> None:
    counts = make_counts(steps=np.array([10.0, 10.000001, 100.0]))
    assert np.isfinite(predict(fit_gp(counts, GPSettings())).logit_mean).all()


def test_all_successes_and_all_zeros_give_finite_rates_on_their_side() -> None:
    counts = make_counts(batch=2)
    k = torch.stack([counts.n[0], torch.zeros_like(counts.n[1])])
    fit = fit_gp(SurfaceCounts(counts.surfaces, STEPS, LEVELS, counts.n, k, counts.kl, counts.kl_var), GPSettings())
    median = predict(fit).median
    assert median[0].min() > 0.9
    assert median[1].max() < 0.05


def test_features_at_a_cutoff_do_not_see_later_checkpoints() -> None:
    counts = make_counts(seed=4)
    later = counts.k.clone()
    later[:, 4 * len(LEVELS) :] = 0
    changed = SurfaceCounts(counts.surfaces, STEPS, LEVELS, counts.n, later, counts.kl, counts.kl_var)
    a, b = (predict(fit_gp(c.up_to(4), GPSettings())).logit_mean for c in (counts, changed))
    assert np.array_equal(a, b)


def test_the_offset_model_refuses_levels_it_cannot_predict() -> None:
    fit = fit_gp(make_counts(), GPSettings(ModelKind.OFFSET))
    with pytest.raises(ValueError, match="level 0 only"):
        predict(fit, levels=np.array([0, 10]))


def test_an_optimised_sigma_does_not_run_to_its_bound() -> None:
    fit = fit_gp(make_counts(seed=9), GPSettings(ModelKind.CONSTRAINED, fit_offset=True))
    assert 0.05 < float(fit.model.log_sigma_is.detach().exp()) < 100


def test_kernels_at_the_corners_of_the_bounds_factorise() -> None:
    """One length scale tiny, the other huge: distances between near twins must not lose their digits."""
    corners = [(v, a, b) for v in (-12.0, 12.0) for a in (-12.0, 12.0) for b in (-12.0, 12.0)]
    model = RateModel(GPSettings(ModelKind.PLAIN), make_counts(batch=len(corners)))
    with torch.no_grad():
        for i, (variance, first, second) in enumerate(corners):
            model.kernel.raw_outputscale.view(-1)[i] = variance
            model.kernel.base_kernel.raw_lengthscale.view(len(corners), 2)[i] = torch.tensor([first, second])
    assert torch.isfinite(model.prior_root()).all()
