"""Gives this folder's tests the engine contract suite and the engines' counterparts as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

MODULES = {
    "engine_contract": "contract.py",
    "scripted_core": "scripted_core.py",
    "endpoint_server": "endpoint_server.py",
}
for name, file in MODULES.items():
    if name not in sys.modules:
        pytest.register_assert_rewrite(name)
        found = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert found is not None
        assert found.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(found)
        found.loader.exec_module(sys.modules[name])
