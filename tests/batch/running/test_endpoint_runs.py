"""Whole runs against a server over HTTP: the rows of a run in process, whatever happens to the server on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import endpoint_server
import pytest
from typer.testing import CliRunner

from foreshock.batch.cli.app import app
from foreshock.batch.config import RunConfig
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import RunHooks, RunResult, resume, run
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.rows import RowIdentity, row_identity
from foreshock.jobs.records.shards import ShardStore, _read_part
from foreshock.jobs.records.spec import Checkpoint

MakeConfig = Callable[..., RunConfig]
KEY = "very-secret-value-31"


@pytest.fixture
def server(sft_run: Path) -> Iterator[Any]:
    checkpoint = Checkpoint("sft", 1, sft_run / "checkpoints" / "checkpoint-1")
    backend = endpoint_server.FakeBackend(checkpoint)
    with endpoint_server.Server(checkpoint, backend, served="checkpoint-1") as running:
        yield running


def served_config(make_config: MakeConfig, server: Any, **options: Any) -> RunConfig:
    short = {"base_url": server.url, "backoff": 0.002, "retries": 4, "timeout": 2.0, "concurrency": 8}
    return make_config(checkpoints={"steps": [1]}, engine={"name": "openai", "options": short | options})


def do(config: RunConfig, run_dir: Path) -> RunResult:
    return run(config, ["foreshock", "run"], RunHooks(), run_dir, analysed=False)


def rows_of(layout: RunLayout) -> dict[tuple[str, RowIdentity], dict[str, Any]]:
    """Every good row on disk, sealed or not."""
    found = {}
    store = ShardStore(layout)
    for spec in PlanFile.read(layout).specs:
        rows = store.rows(spec) if store.manifest(spec) else []
        for part in layout.parts_folder(spec).glob("*.jsonl"):
            rows += [row for row, _ in _read_part(part) or []]
        found |= {(spec.kind.value, row_identity(row)): row for row in rows if "error" not in row}
    return found


def same(rows: dict[Any, dict[str, Any]], expected: dict[Any, dict[str, Any]]) -> None:
    assert rows == {key: expected[key] for key in rows}


@pytest.fixture
def expected(make_config: MakeConfig, server: Any, tmp_path: Path) -> dict[Any, dict[str, Any]]:
    """The rows of an untroubled run; those that are sampled are held against the engine in process."""
    found = rows_of(do(served_config(make_config, server), tmp_path / "untroubled").layout)
    assert len(found) == 2 * (10 + 9 + 9) + 2 * 2 * 9
    config = make_config(checkpoints={"steps": [1]}, engine={"name": "fake"}, logprob={"enabled": False})
    same(rows_of(do(config, tmp_path / "in-process").layout), found)
    server.counts.clear()
    return found


def test_a_served_run_gives_the_rows_of_a_run_in_process(
    make_config: MakeConfig, server: Any, expected: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    monkeypatch.setenv("PLAIN_NAME", KEY)
    server.faults = lambda path, n: ("429", "500", "garbage", "half_closed", "drop")[n % 5] if n % 7 == 3 else None
    result = do(served_config(make_config, server, api_key_env="PLAIN_NAME"), tmp_path / "served")
    assert result.complete
    rows = rows_of(result.layout)
    assert rows.keys() == expected.keys()
    same(rows, expected)
    written = b"".join(path.read_bytes() for path in result.layout.root.rglob("*") if path.is_file())
    assert KEY.encode() not in written


def test_a_server_that_dies_in_a_run_loses_no_row_and_resume_completes_it(
    make_config: MakeConfig, server: Any, expected: dict[Any, Any], tmp_path: Path
) -> None:
    port = server.port
    # The list is asked for once before anything, and then before each batch of results is let go.
    server.faults = lambda path, n: "die" if path == "completions" and n > 50 else None
    result = do(served_config(make_config, server), tmp_path / "served")
    assert not result.complete
    kept = rows_of(result.layout)
    assert 0 < len(kept) < len(expected)
    same(kept, expected)
    server.faults = lambda path, n: None
    server.start(port)
    assert resume(result.layout.root, RunHooks(), analysed=False).complete
    rows = rows_of(result.layout)
    assert rows.keys() == expected.keys()
    same(rows, expected)


def test_a_model_exchanged_in_a_run_leaves_right_rows_only(
    make_config: MakeConfig, server: Any, expected: dict[Any, Any], tmp_path: Path
) -> None:
    def exchange(body: dict[str, Any]) -> float:
        if server.counts["completions"] > 60:
            server.root = "/elsewhere/checkpoint-2"
            server.backend = endpoint_server.FakeBackend(Checkpoint("sft", 2, server.checkpoint.path))
        return 0.0

    server.delay_s = exchange
    result = do(served_config(make_config, server), tmp_path / "served")
    assert not result.complete
    kept = rows_of(result.layout)
    assert 0 < len(kept) < len(expected)
    same(kept, expected)


def test_options_are_checked_when_planning_and_a_key_among_them_is_refused(make_config: MakeConfig) -> None:
    for options, message in (
        ({}, "base_url is ''"),
        ({"base_url": "http://h/v1", "api_key": KEY}, "has no option 'api_key'; valid: api_key_env, backoff, base_url"),
        ({"base_url": "http://h/v1", "mode": "x"}, "valid: completions, chat"),
    ):
        with pytest.raises(InputError, match="engine 'openai'") as refused:
            make_plan(make_config(engine={"name": "openai", "options": options}))
        assert message in str(refused.value)
        assert KEY not in str(refused.value)


def test_the_commands_take_a_base_url(server: Any, sft_run: Path, traces: Path, tmp_path: Path) -> None:
    out, scores = tmp_path / "eval.jsonl", tmp_path / "scores.jsonl"
    checkpoint = str(sft_run / "checkpoints" / "checkpoint-1")
    arguments = ["eval", checkpoint, "-o", str(out), "--prefill-tokens", "10", "--prefill-from", str(traces)]
    arguments += ["--num-attempts", "1", "--max-tokens", "8", "--base-url", server.url]
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None, done.output
    assert len(out.read_text().splitlines()) == 9
    scoring = ["logprob", f"{out}.samples.jsonl", "--checkpoint", checkpoint, "-o", str(scores)]
    done = CliRunner().invoke(app, [*scoring, "--base-url", server.url, "--served-model", "checkpoint-1"])
    assert done.exception is None, done.output
    assert all(json.loads(line)["prefill_logprob_sum"] < 0 for line in scores.read_text().splitlines())


def test_rows_that_are_done_are_on_disk_while_a_long_one_still_runs(
    make_config: MakeConfig, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foreshock.jobs.evaluate.FLUSH_S", 0.1)
    on_disk: list[int] = []
    run_dir = tmp_path / "served"

    def wait(body: dict[str, Any]) -> float:
        if body.get("max_tokens") != 12:  # only continuations
            return 0.0
        if not on_disk:
            on_disk.append(0)
            time.sleep(3.0)
            on_disk.append(len(rows_of(RunLayout(run_dir))))
        return 0.03

    server.delay_s = wait
    config = served_config(make_config, server, concurrency=2, timeout=30.0)
    assert do(make_config_without_scores(config), run_dir).complete
    assert on_disk[1] > 20


def make_config_without_scores(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"logprob": config.logprob.model_copy(update={"enabled": False})})
