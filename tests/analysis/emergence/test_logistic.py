from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from foreshock.analysis.emergence.logistic import fit_logistic, predict


@pytest.mark.parametrize("penalty_c", [0.1, 1.0, 50.0])
def test_coefficients_equal_scikit_learn(penalty_c: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 3))
    labels = (rng.random((12, 20)) < 0.4).astype(float)
    labels[:, 0], labels[:, 1] = 1.0, 0.0
    beta = fit_logistic(x, labels, penalty_c)
    for row, y in zip(beta, labels, strict=True):
        reference = LogisticRegression(C=penalty_c, tol=1e-10, max_iter=5000).fit(x, y)
        assert row == pytest.approx([reference.intercept_[0], *reference.coef_[0]], abs=2e-5)


def test_separable_data_keep_finite_coefficients() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    beta = fit_logistic(x, np.array([[0.0, 0.0, 1.0, 1.0]]))
    assert np.isfinite(beta).all()
    assert (np.diff(predict(beta, x)[0]) > 0).all()


def test_one_class_scores_every_sample_alike() -> None:
    x = np.array([[0.0], [1.0], [5.0]])
    assert np.ptp(predict(fit_logistic(x, np.ones((1, 3))), x)) == 0


def test_constant_features_score_every_sample_alike() -> None:
    x = np.zeros((6, 2))
    assert np.ptp(predict(fit_logistic(x, np.array([[0.0, 1, 0, 1, 1, 0]])), x)) == 0
