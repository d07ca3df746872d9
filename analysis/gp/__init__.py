"""Gaussian-process models of the exploit rate over checkpoints and prefill levels.

    counts = surface_counts(evidence)
    fit = fit_gp(counts, GPSettings(model=ModelKind.CONSTRAINED, mean=MeanKind.TANH))
    predict(fit, levels=np.array([0])).logit_mean        # [surface, checkpoint, 1]

Submodules are imported by name; this package imports nothing, so that `foreshock.analysis.gp.laplace` stays light.
"""
