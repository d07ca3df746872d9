"""The example package, installed as a user would: found by its entry point, it keeps the contract and judges."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.records.verdicts import CodeStatus

EXAMPLE = Path(__file__).parents[2] / "examples" / "pytest_style_verifier"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed package and nothing else."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")
    where = ["--target", str(folder / "site"), str(folder / "source")]
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, *where], check=True)
    return folder / "site"


def call(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", *arguments]
    # The suite's coverage is asked for in variables, and its paths mean nothing to a pytest in another folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLIPCOVER_")}
    return subprocess.run(
        command, env=environment | {"PYTHONPATH": path}, cwd=cwd, capture_output=True, text=True, check=False
    )


def test_it_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    done = call(installed, "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_help_and_doctor_name_it(installed: Path, tmp_path: Path) -> None:
    assert "pytest-style" in call(installed, "foreshock", "rescore", "--help", cwd=tmp_path).stdout
    found = json.loads(call(installed, "foreshock", "doctor", "--json", cwd=tmp_path).stdout)
    (mine,) = [item for item in found if item["what"] == "verifier pytest-style"]
    assert mine["state"] == "ok"
    assert "foreshock-pytest-style 1.0" in mine["found"]


def test_a_sweep_is_planned_and_judged_by_it(
    installed: Path, tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]
) -> None:
    config: dict[str, Any] = {
        "name": "own",
        "results_dir": str(tmp_path / "results"),
        "checkpoints": {"dir": str(make_checkpoint(step=1, seed=1).path.parent)},
        "problems": {"source": str(installed / "foreshock_pytest_style" / "problems.jsonl")},
        "prefill": {"levels": [0]},
        "sampling": {"attempts": 2, "max_tokens": 400},
        "engine": {"name": "fake"},
        "verifier": {"name": "pytest-style", "allow_weak_sandbox": True, "options": {"report_hooks": False}},
        "logprob": {"enabled": False},
        "analysis": {"enabled": False},
        "execution": {"workers": 1},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    done = call(installed, "foreshock", "run", "sweep.yaml", "--keep-inconsistent", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "results" / "prefill_sensitivity").iterdir()
    planned = json.loads((run / "plan.json").read_text())
    assert planned["settings"]["verifier_options"]["report_hooks"] is False
    assert {spec["verifier"] for spec in planned["specs"]} == {"pytest-style:1:no-hooks:timeout=5"}
    rows = [json.loads(line) for line in next(run.glob("evals/*_prefill0.jsonl")).read_text().splitlines()]
    assert len(rows) == 4
    judged = [row for row in rows if CodeStatus(row["code_status"]).judged]
    assert judged
    assert {row["exploit_success"] for row in judged} == {False}

    config["verifier"]["options"] = {"report_hook": True}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
    refused = call(installed, "foreshock", "plan", "sweep.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "has no option 'report_hook' of its own; valid: report_hooks" in refused.stderr


def test_without_the_package_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        yaml.safe_dump({"checkpoints": {"dir": "."}, "prefill": {"levels": [0]}, "verifier": {"name": "pytest-style"}})
    )
    refused = call(tmp_path, "foreshock", "plan", "sweep.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "unknown verifier 'pytest-style'; valid: builtin, djinn" in refused.stderr
