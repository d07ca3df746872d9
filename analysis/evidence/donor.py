"""pi and a: how often the donor exploits a task, and how often it does once a prefix is forced.

A source that kept only exploit traces proposes prefixes from q(z) = D(z) a(z) / pi, so the weight P/D gains the
factor pi / a(z). Both are smoothed towards their exploit type's mean with a strength estimated from the data
(beta-binomial, method of moments), because a banked prefix has a > 0 even where a few rollouts all failed, and an
estimate of zero would silently drop its task.
"""

from __future__ import annotations

import numpy as np

from foreshock.analysis.evidence.evidence import Floats, Ints

_STRENGTH = (0.5, 200.0)


def smoothed_rates(k: Ints, n: Ints, group: Ints) -> Floats:
    """Posterior mean rates under a beta prior fitted to each group.

    k, n, group: [I] successes, trials and group codes 0..G-1 of I units. Returns [I], inside (0, 1).
    The prior mean is the group's (K + 1/2) / (N + 1); its strength s solves
    Var(k_i / n_i) = p (1 - p) (1 + (n - 1) / (s + 1)) / n by moments (Kleinman 1973, JASA 68:46), within (0.5, 200).
    """
    groups = int(group.max()) + 1 if len(group) else 0
    total_k = np.bincount(group, weights=k, minlength=groups)
    total_n = np.bincount(group, weights=n, minlength=groups)
    mean = (total_k + 0.5) / (total_n + 1.0)
    used = n > 0
    rate = np.divide(k, n, out=np.zeros(len(k)), where=used)
    units = np.maximum(np.bincount(group, weights=used, minlength=groups), 1.0)
    squares = np.bincount(group, weights=used * (rate - mean[group]) ** 2, minlength=groups)
    per_unit = np.maximum(total_n / units, 1.0)
    base = mean * (1 - mean)
    # Intra-class correlation 1 / (s + 1).
    icc = (per_unit * squares / np.maximum(units - 1, 1.0) / base - 1) / np.maximum(per_unit - 1, 1e-9)
    strength = np.clip(1 / np.clip(icc, 1e-6, 1.0) - 1, *_STRENGTH)
    strength = np.where((units < 4) | (per_unit <= 1), 1.0, strength)
    return np.asarray((k + strength[group] * mean[group]) / (n + strength[group]))
