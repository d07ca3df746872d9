"""NaN stands for "not measured" in the headline's tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def nan_is_missing() -> Iterator[None]:
    """Let means of nothing and logs of 0 be NaN and -inf in silence: whoever reads them asks if they are finite."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
