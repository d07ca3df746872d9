"""What importing an analysis costs: seconds of torch only for those that compute with it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["forecast.run", "report.rates_section", "report.forecast_section", "report"])
def test_torch_is_not_read_by(module: str) -> None:
    code = f"import sys, foreshock.analysis.{module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
