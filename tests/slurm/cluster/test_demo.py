"""The demo's own sweep on a cluster: the tables of the run that `make demo` made on this machine, row for row."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.cluster, pytest.mark.long]

DEMO = Path(os.environ.get("FORESHOCK_DEMO", Path(__file__).parents[3] / "demo-results"))
TABLES = ("evals", "logprob", "ref_logprob", "kl", "ground_truth")


def tables(run: Path) -> dict[str, list[str]]:
    """Rows by file."""
    return {f"{name}/{path.name}": path.read_text().splitlines() for name in TABLES for path in (run / name).iterdir()}


def differences(one: Path, other: Path) -> list[str]:
    """Each row that two runs do not share, as the keys that differ with both values; the source was copied."""
    left, right = tables(one), tables(other)
    if left.keys() != right.keys():
        return [f"files: {sorted(left.keys() ^ right.keys())}"]
    found = []
    for name in left:
        if len(left[name]) != len(right[name]):
            found.append(f"{name}: {len(left[name])} and {len(right[name])} rows")
        for number, (a, b) in enumerate(zip(left[name], right[name], strict=False), 1):
            if a != b:
                x, y = json.loads(a), json.loads(b)
                keys = [key for key in x.keys() | y.keys() if x.get(key) != y.get(key) and key != "prefill_source"]
                if keys:
                    found.append(
                        f"{name}:{number}: " + "; ".join(f"{key} {x.get(key)!r} | {y.get(key)!r}" for key in keys)
                    )
    return found


def test_the_demos_sweep_runs_as_arrays_and_gives_the_tables_of_the_local_run(
    bed: Any, sweep: ModuleType, sweep_tools: ModuleType
) -> None:
    assert DEMO.is_dir(), "run `make demo` first, or set FORESHOCK_DEMO to what it made"
    folder = bed.folder("demo")
    made = folder / "made"
    shutil.copytree(DEMO, made)
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # weights are saved for their owner alone
    config = sweep.write_config(folder, made, {"array_throttle": 2})
    profile = yaml.safe_load(config.read_text())["execution"]["profile"]
    text = (made / "configs" / "demo-exploit.yaml").read_text()
    data = yaml.safe_load(text.replace(yaml.safe_load(text)["results_dir"], str(made)))
    data["results_dir"] = str(folder / "results")
    data["execution"] |= {"cluster": "slurm", "profile": profile, "workers": None}
    config.write_text(yaml.safe_dump(data))
    run = sweep_tools.Sweep(bed, folder, config)
    run.foreshock("run", str(run.config))
    bed.wait_idle(1500)
    assert run.document()["status"] == "completed"
    status = run.status()
    assert status["rows_done"] == status["rows_total"]
    (local,) = (made / "prefill_sensitivity").glob("demo-exploit-*")
    assert differences(run.dir, local) == []
    assert (run.dir / "report.html").is_file()
