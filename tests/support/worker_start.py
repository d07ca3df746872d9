"""What each of several test processes would do again when it starts: compile every file, and look at the whole source
for coverage."""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def compile_share(root: Path, loader: Loader, share: int, shares: int) -> None:
    """Of the files that tests import, compile every `shares`th. What the neighbours compile is then found compiled.

    `loader` is pytest's, which rewrites assertions: `__loader__` of a conftest.py.
    """
    if sys.dont_write_bytecode:
        return
    mine = [*_files(root / "src"), *_files(root / "tests"), *_files(root / "benchmarks")][share::shares]
    for file in mine:
        if not (file.name.startswith("test_") or file.name == "conftest.py"):
            compileall.compile_file(file, quiet=2)
        elif not _is_rewritten(file):
            _rewrite(file, loader)


def _files(folder: Path) -> Iterator[Path]:
    """Python files below a folder, links followed, in the order that is everyone's."""
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(path, name) for name in sorted(names) if name.endswith(".py"))


def _is_rewritten(file: Path) -> bool:
    compiled = file.parent.glob(f"__pycache__/{file.stem}.*-pytest-*.pyc")
    return any(made.stat().st_mtime_ns > file.stat().st_mtime_ns for made in compiled)


def _rewrite(file: Path, loader: Loader) -> None:
    """A loader compiles, stores and then executes: where no import is possible, the last ends at once.

    Of a file that does not parse, the test run tells when it collects it.
    """
    module = ModuleType(str(file))
    module.__spec__ = ModuleSpec(str(file), loader, origin=str(file))
    module.__dict__["__builtins__"] = {}
    with suppress(ImportError, SyntaxError):
        loader.exec_module(module)


def ease_coverage() -> None:
    """Let slipcover look seldom for code that need not be watched any longer, and leave files that no test of this
    process imported to the process that joins all coverage."""
    plugin = sys.modules.get("slipcover.pytest_plugin")
    measured = getattr(plugin, "_slipcover_instance", None)
    if measured is not None:  # a process that measures
        measured.d_miss_threshold = 1000  # each look walks all modules; a line costs 0.1 µs until then
        measured.source = None
