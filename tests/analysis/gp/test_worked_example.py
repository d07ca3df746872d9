"""The worked example of docs/methods.md: what each Gaussian process says of 0 of 90, beside 3 of 90 at 20 words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foreshock.analysis.evidence.evidence import Surface
from foreshock.analysis.gp.counts import SurfaceCounts
from foreshock.analysis.gp.fit import fit_gp
from foreshock.analysis.gp.models import GPSettings, ModelKind
from foreshock.analysis.gp.offsets import OffsetKind, OffsetSettings
from foreshock.analysis.gp.predict import predict

CONSTRAINED, OFFSET = ModelKind.CONSTRAINED, ModelKind.OFFSET
STATED = {
    "gp": (GPSettings(), 0.43),
    "constrained, alpha .15": (GPSettings(CONSTRAINED), 0.70),
    "constrained, alpha .15, sigma_IS .3": (GPSettings(CONSTRAINED, offset=OffsetSettings(sigma_is=0.3)), 1.22),
    "constrained, alpha 1": (GPSettings(CONSTRAINED, offset=OffsetSettings(alpha=1.0)), 0.35),
    "constrained, jensen": (GPSettings(CONSTRAINED, offset=OffsetSettings(OffsetKind.JENSEN)), 0.42),
    "offset from .15": (GPSettings(OFFSET), 1.14),
    "offset from 1": (GPSettings(OFFSET, offset=OffsetSettings(alpha=1.0)), 0.28),
}


def counts() -> SurfaceCounts:
    n, k, kl, variance = (torch.tensor([row], dtype=torch.float64) for row in ([90, 90], [0, 3], [0, 2.5], [0, 1.0]))
    return SurfaceCounts((Surface("r", "t"),), np.array([10.0]), np.array([0, 20]), n, k, kl, variance)


@pytest.mark.parametrize("name", STATED)
def test_each_model_says_what_the_documentation_states(name: str) -> None:
    settings, percent = STATED[name]
    level_0 = predict(fit_gp(counts(), settings), levels=np.array([0])).median[0, 0, 0]
    assert 100 * level_0 == pytest.approx(percent, rel=0.05)
