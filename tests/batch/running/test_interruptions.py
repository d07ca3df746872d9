"""A run that is killed, or interrupted, and taken up again gives the same tables."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from whole_runs import full_config, tables

from foreshock.batch.running.run import RunHooks, require_complete, run
from foreshock.jobs.records.layout import RunLayout

pytestmark = pytest.mark.early

N_KILLS = int(os.environ.get("FORESHOCK_TEST_KILLS", "2"))
"""Kills of each kind; a patient machine may take 10."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, sft_run: Path, traces: Path) -> RunLayout:
    """The same sweep in one go."""
    result = run(full_config(tmp_path_factory.mktemp("undisturbed"), sft_run, traces), ["foreshock", "run"], RunHooks())
    require_complete(result)
    return result.layout


def launch(
    config_file: Path, run_dir: Path, arguments: list[str], environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foreshock", *arguments]
    command += [str(config_file), "--run-dir", str(run_dir)] if arguments == ["run"] else [str(run_dir)]
    with (config_file.parent / "log.txt").open("ab") as log:
        # A shell starts what it puts in the background with SIGINT ignored, and a program inherits that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            settings = os.environ | (environment or {})
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=settings)
        finally:
            signal.signal(signal.SIGINT, before)


def workers_of(run_dir: Path) -> list[int]:
    """Process ids of a run's workers and of the server that they are forked from, by their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(run_dir).encode() in line and any(part.startswith(b"foreshock.jobs") for part in line):
                found.append(int(entry.name))
    return found


def wait_for_workers(run_dir: Path, process: subprocess.Popen[bytes], wanted: bool = True) -> None:
    """Until a run's workers are there, or none is left, or its launcher has ended."""
    deadline = time.monotonic() + 180
    while bool(workers_of(run_dir)) is not wanted and time.monotonic() < deadline:
        if wanted and process.poll() is not None:
            return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def odd_file_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library for LD_PRELOAD under which files behave as on shared file systems: see its source."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler; apt-get install gcc libc6-dev")
    source = Path(__file__).parents[2] / "support" / "odd_file_system.c"
    library = tmp_path_factory.mktemp("odd") / "odd_file_system.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def test_kill_9_at_random_instants_then_resume_gives_the_same_tables(
    undisturbed: RunLayout, tmp_path: Path, sft_run: Path, traces: Path, odd_file_system: Path
) -> None:
    """Kills of the launcher, whose workers must go with it, and of a worker or their server, to be replaced.

    At every other start the file system has no hard links, refuses to sync folders, and tells coarse times of a clock
    that is ahead. Shards are bundled as they are sealed.
    """
    config = full_config(tmp_path, sft_run, traces, cluster="local", bundle_from=40)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config.to_yaml_dict()))
    run_dir = tmp_path / "run"
    rng = random.Random(0)

    refusals = tmp_path / "refusals"
    odd = {"LD_PRELOAD": str(odd_file_system), "ODD_FS_ROOT": str(tmp_path), "ODD_FS_COUNT": str(refusals)}
    environments = itertools.cycle([odd, {}])

    def launched() -> subprocess.Popen[bytes]:
        arguments = ["resume"] if (run_dir / "plan.json").is_file() else ["run"]
        return launch(file, run_dir, arguments, next(environments))

    process = launched()
    victims = ["launcher", "worker"] * N_KILLS
    while victims:
        wait_for_workers(run_dir, process)
        time.sleep(rng.uniform(0.0, 6.0))  # the server imports for the first half, the workers end with the second
        workers = workers_of(run_dir)
        if process.poll() is not None or not workers:
            if process.wait() == 0:  # finished before the kills were spent: start over
                shutil.rmtree(run_dir)
            process = launched()
        elif victims.pop(0) == "launcher":
            process.kill()
            process.wait()
            wait_for_workers(run_dir, process, wanted=False)
            assert not workers_of(run_dir), "a worker outlived its launcher"
            process = launched()
        else:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
    process.wait()  # whatever the last kill made of it
    for folder in (run_dir, *(run_dir / name for name in ("packs", "progress", "admission", "ran"))):
        folder.mkdir(exist_ok=True)  # a kill seldom hits the moment of a small file's writing
        (folder / f".half.json.{socket.gethostname()}-{process.pid}.tmp").write_text("{")
    process = launched()
    assert process.wait() == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert {"f", "l", "t"} <= set(refusals.read_text()), "the file system was not odd"
    assert tables(run_dir) == tables(undisturbed.root)
    assert not list(run_dir.rglob("*.tmp"))
    assert not list(run_dir.rglob("*.parts"))
    assert len(list(run_dir.glob("shards/bundles/*.zip"))) > 1
    assert not list(run_dir.glob("shards/**/*.manifest.json"))


def test_ctrl_c_leaves_a_usable_state(undisturbed: RunLayout, tmp_path: Path, sft_run: Path, traces: Path) -> None:
    config = full_config(tmp_path, sft_run, traces, cluster="local")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config.to_yaml_dict()))
    run_dir = tmp_path / "run"
    process = launch(file, run_dir, ["run"])
    deadline = time.monotonic() + 180
    while not list((run_dir / "shards").rglob("*.jsonl")) and time.monotonic() < deadline:  # the first batch's rows
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=180) == 130
    assert not workers_of(run_dir)
    status = json.loads((run_dir / "status.json").read_text())
    assert status["status"] == "interrupted"
    assert "foreshock resume" in (tmp_path / "log.txt").read_text()
    again = launch(file, run_dir, ["resume"])
    assert again.wait() == 0
    assert tables(run_dir) == tables(undisturbed.root)
