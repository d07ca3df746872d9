"""Test processes that start together share out what each would compile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from worker_start import compile_share


def test_every_file_is_compiled_by_one_and_none_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for folder in ("src", "tests", "benchmarks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part.py").write_text("raise SystemExit('executed')\n")
    for name in ("test_one", "test_two"):
        (tmp_path / "tests" / f"{name}.py").write_text("from __future__ import annotations\n\nassert not 'executed'\n")
    (tmp_path / "tests" / "test_unfinished.py").write_text("def test_(\n")

    def compiled() -> list[str]:
        return sorted(path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc"))

    compile_share(tmp_path, __loader__, 0, 2)
    first = compiled()
    compile_share(tmp_path, __loader__, 1, 2)
    assert len(first) == 2
    assert compiled() == ["part", "part", "part", "test_one", "test_two"]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pyc")}
    for share in range(2):
        compile_share(tmp_path, __loader__, share, 2)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pyc")}
    assert sum("-pytest-" in path.name for path in written) == 2
