"""The tutorial does what it says: every block of it, on a tiny random model; and every page can be found."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from foreshock.batch.cli.app import app

pytestmark = pytest.mark.usefixtures("svg_alone")

DOCS = Path(__file__).parents[3] / "docs"


def blocks() -> list[str]:
    """The shell blocks of the tutorial, in order."""
    return re.findall(r"^```sh\n(.*?)^```", (DOCS / "tutorial.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_tutorial_runs(sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sft_run / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    ran = []
    for block in blocks():
        files, commands = _split(block)
        if files:
            subprocess.run(["bash", "-euc", files], check=True, timeout=30)
        for command in commands:
            arguments = shlex.split(command)[1:]
            if arguments[0] == "doctor":
                continue  # it looks at the whole machine, and has tests of its own
            if arguments[0] in ("plan", "run"):
                arguments += ["--cluster", "inline", "engine.device=cpu", "engine.dtype=float32"]
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, (command, done.output, done.exception)
            ran.append(arguments[0])
    assert ran == ["check", "init", "prompt", "plan", "plan", "run", "status", "view"]
    config = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    assert config["prefill"]["source"] == "traces.jsonl"
    (report,) = (tmp_path / "results" / "prefill_sensitivity").glob("*/report.html")
    saved = yaml.safe_load((report.parent / "config.yaml").read_text())["config"]
    assert saved["problems"]["source"] == str(tmp_path / "problems.jsonl")
    assert saved["sampling"]["attempts"] == 2
    assert saved["engine"]["name"] == "transformers"
    assert (tmp_path / "samples" / "index.html").is_file()


def _split(block: str) -> tuple[str, list[str]]:
    """What a shell does (here documents), and foreshock's own commands."""
    files, commands, inside = [], [], False
    for line in block.splitlines():
        if not inside and line.startswith("foreshock "):
            commands.append(line)
            continue
        inside = (inside or "<<" in line) and line != "END"
        files.append(line)
    return "\n".join(files), commands


def test_every_page_is_reachable_from_the_index() -> None:
    seen: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" in target:
                continue
            path = (page.parent / target).resolve()
            assert path.exists(), f"{page.name} links to {target}, which is not there"
            todo += sorted(path.glob("*.md")) if path.is_dir() else [path] if path.suffix == ".md" else []
    assert set(DOCS.rglob("*.md")) <= seen
