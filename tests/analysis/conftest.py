"""Fixtures shared by the analysis tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest
from cell_tables import make_cells

__all__ = ["make_cells"]

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """tests/analysis/run_factory.py: writes run directories in the documented formats."""
    name = "foreshock_test_run_factory"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("run_factory.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def toy_run(factory: ModuleType, tmp_path: Path) -> Path:
    """A complete small run directory."""
    return factory.write_run(tmp_path / "sweep-20260102-030405-abcdef0", ground_truth=True)
