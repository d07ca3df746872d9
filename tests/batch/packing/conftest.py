"""Gives the packing tests their instance generator."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def packing() -> ModuleType:
    """The module of random instances beside this file."""
    path = Path(__file__).with_name("instances.py")
    found = importlib.util.spec_from_file_location("packing_instances", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["packing_instances"] = module  # dataclasses look their module up by name
    found.loader.exec_module(module)
    return module
