"""Fixtures shared by the analysis tests."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import matplotlib
import pytest
import run_factory
from cell_tables import make_cells

__all__ = ["make_cells"]

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """tests/support/run_factory.py: writes run directories in the documented formats."""
    return run_factory


@pytest.fixture
def toy_run(factory: ModuleType, tmp_path: Path) -> Path:
    """A complete small run directory."""
    return factory.write_run(tmp_path / "sweep-20260102-030405-abcdef0", ground_truth=True)
