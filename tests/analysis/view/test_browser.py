"""The page in a real browser: it shows what the run holds, and hostile texts do nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foreshock.analysis.page.links import sample_href
from foreshock.analysis.view.export import export
from foreshock.analysis.view.index import index_run
from foreshock.analysis.view.query import RunIndex
from foreshock.analysis.view.server import ViewServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (on Debian: apt-get install chromium)"),
]


@pytest.fixture(params=["server", "export"])
def address(request: pytest.FixtureRequest, hostile_run: Path, tmp_path: Path) -> Iterator[str]:
    """The page of a hostile run, served, and as files."""
    index = RunIndex(hostile_run.name, index_run(hostile_run))
    if request.param == "export":
        export([index], tmp_path / "site")
        yield (tmp_path / "site" / "index.html").as_uri()
        return
    with ViewServer([index]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.address
        server.shutdown()
        thread.join()


def browse(address: str, home: Path) -> str:
    """The document after its scripts have run."""
    assert CHROMIUM is not None
    options = ["--headless", "--disable-gpu", f"--user-data-dir={home}", "--virtual-time-budget=10000", "--dump-dom"]
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run([CHROMIUM, *options, *root, address], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_a_hostile_run_is_shown_and_does_nothing(address: str, tmp_path: Path) -> None:
    page = browse(address, tmp_path / "browser")
    assert "<title>foreshock: samples</title>" in page
    assert "1 to 16 of 16" in page
    assert "&lt;img src=x onerror=" in page
    assert "<img" not in page
    assert page.count("<script") == (1 if address.startswith("http") else 6)


def test_a_link_of_the_report_opens_its_samples(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run()
    export([RunIndex(run.name, index_run(run))], run / "view")
    link = sample_href({"run": run.name, "checkpoint": "16", "level": "0", "type": "flag", "verdict": "exploit"})
    page = browse(f"{run.as_uri()}/{link}", tmp_path / "browser")
    assert "1 to 1 of 1" in page
    assert "alpha · checkpoint 16, 0 words, attempt 0" in page
    assert "Answer 16 0" in page  # the first sample is open at once
    wrong = sample_href({"run": "another", "checkpoint": "16"})
    assert "the run another is not here" in browse(f"{run.as_uri()}/{wrong}", tmp_path / "browser")
