"""What importing an analysis costs: seconds of torch only for those that compute with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WITHOUT_TORCH = ["forecast.run", "report.rates_section", "report.forecast_section", "report"]


@pytest.fixture(scope="module")
def reads_torch() -> dict[str, bool]:
    """Of each module, whether torch was loaded after it: one interpreter imports all of them, one after the other."""
    code = (
        "import importlib, json, sys\n"
        "def reads(module):\n"
        "    importlib.import_module('foreshock.analysis.' + module)\n"
        "    return 'torch' in sys.modules\n"
        "print(json.dumps({module: reads(module) for module in sys.argv[1:]}))"
    )
    asked = subprocess.run([sys.executable, "-c", code, *WITHOUT_TORCH], check=True, stdout=subprocess.PIPE)
    return json.loads(asked.stdout)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_torch_is_not_read_by(reads_torch: dict[str, bool], module: str) -> None:
    assert not reads_torch[module]
