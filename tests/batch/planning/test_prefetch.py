"""What a run takes from the internet is fetched once, and planning then needs none. With the real hub client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from hub_server import COMMIT, HubServer, hub_server
from problem_rows import ADD

from foreshock.jobs.model_files.adapters import base_of, hub_cache_of
from foreshock.jobs.records.spec import Checkpoint

pytestmark = pytest.mark.early


@pytest.fixture
def hub(tiny: Checkpoint) -> Iterator[HubServer]:
    """A data set and the tiny model, the latter beside another format of its weights."""
    model = {path.name: path.read_bytes() for path in tiny.path.iterdir()}
    problem = json.dumps(ADD | {"id": "eval-0"}).encode()
    repositories: dict[str, Mapping[str, bytes]] = {
        "datasets/lab/problems": {"eval.jsonl": problem, "README.md": b"not needed"},
        "models/lab/base": model | {"pytorch_model.bin": b"not needed"},
    }
    with hub_server(repositories) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, tiny: Checkpoint, make_adapter: Callable[..., Checkpoint]) -> Path:
    """A sweep over an adapter whose base, and whose problems, are on the hub alone."""
    adapter = make_adapter(tiny, base_model_name_or_path="lab/base")
    data = {
        "checkpoints": {"dir": str(adapter.path.parent)},
        "problems": {"source": "lab/problems", "revision": "v1", "split": "eval"},
        "prefill": {"levels": [0]},
        "logprob": {"enabled": False},
        "engine": {"device": "cpu", "dtype": "float32"},
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def foreshock(*arguments: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command with a hub cache of its own."""
    variables = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", **environment}
    argv = [sys.executable, "-m", "foreshock", *arguments]
    return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False)


def test_everything_is_fetched_once_and_planning_needs_no_internet_after_it(
    hub: HubServer, config: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "hf"
    first = foreshock("prefetch", str(config), "--json", cache=cache, HF_ENDPOINT=hub.address)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    assert [(item["what"], item["was_here"]) for item in found] == [("problems", False), ("base model", False)]
    assert {Path(item["path"]).name for item in found} == {COMMIT}
    assert "datasets/lab/problems/eval.jsonl" in hub.served
    assert not [file for file in hub.served if file.endswith((".bin", "README.md"))]
    once = len(hub.served)
    again = foreshock("prefetch", str(config), cache=cache, HF_ENDPOINT=hub.address)
    assert again.stdout.count("here already") == 2
    assert len(hub.served) == once
    plan = foreshock("plan", str(config), "--json", cache=cache, HF_HUB_OFFLINE="1")
    assert plan.returncode == 0, plan.stderr


def test_without_it_planning_says_how_to_get_the_base(hub: HubServer, config: Path, tmp_path: Path) -> None:
    plan = foreshock("plan", str(config), cache=tmp_path / "empty", HF_ENDPOINT=hub.address)
    assert plan.returncode == 2
    assert "foreshock prefetch CONFIG.yaml" in plan.stderr.replace("\n", " ")


def test_what_the_hub_does_not_have_is_named(hub: HubServer, config: Path, tmp_path: Path) -> None:
    del hub.repositories["models/lab/base"]
    done = foreshock("prefetch", str(config), cache=tmp_path / "hf", HF_ENDPOINT=hub.address)
    assert done.returncode == 2
    assert "base model 'lab/base' is not here and could not be fetched" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_run_with_nothing_on_the_internet_says_so(config: Path, tmp_path: Path, tiny: Checkpoint) -> None:
    data = yaml.safe_load(config.read_text())
    data["problems"] = {"source": "builtin"}
    data["checkpoints"] = {"dir": str(tiny.path.parent)}
    config.write_text(yaml.safe_dump(data))
    done = foreshock("prefetch", str(config), cache=tmp_path / "hf", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nothing to fetch")


def test_a_cached_bases_files_reach_a_container_through_the_models_folder(
    tmp_path: Path, tiny: Checkpoint, make_adapter: Callable[..., Checkpoint]
) -> None:
    model = tmp_path / "models--lab--base"
    assert hub_cache_of(model / "snapshots" / COMMIT) == (tmp_path, model)
    assert hub_cache_of(base_of(make_adapter(tiny).path)) is None
