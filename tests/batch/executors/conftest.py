"""The executors' contract suite as the module `executor_contract`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

NAME = "executor_contract"
if NAME not in sys.modules:
    pytest.register_assert_rewrite(NAME)
    found = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("contract.py"))
    assert found is not None
    assert found.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules[NAME])
