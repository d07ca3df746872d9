"""Trackers and the hub get what the run holds, read back by their own readers; nothing is sent unless asked for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from foreshock.analysis.exporting.series import track
from foreshock.analysis.exporting.spec import EXPORTERS
from foreshock.analysis.tables import load_evals
from foreshock.batch.cli.app import app
from foreshock.errors import InputError

RATES = (
    "run,exploit_type,checkpoint,method,log10_rate,lower95,upper95\n"
    "toy,leak,5,direct,,-inf,-0.5\ntoy,leak,inf,headline,-1.0,-2.0,-0.3\n"
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, factory: ModuleType) -> Path:
    toy = factory.ToyRun(checkpoints=(5, 20, "final"), levels=(0, 10), tasks_per_type=2, types=("leak", "a/b <b>"))
    path: Path = factory.write_run(tmp_path_factory.mktemp("results") / "toy", toy)
    (path / "analysis").mkdir()
    (path / "analysis" / "rates.csv").write_text(RATES)
    (path / "config.yaml").write_text("sampling: {attempts: 3, seed: null}\nname: toy\n")
    (path / "report.html").write_text("<p>x</p>")
    codes = [{"task_id": "a", "exploit_type": "leak", "exploit_logprob_sum": -7.0, "reasoning_before": "honest"}]
    factory.write_rows(path / "exploit_logprob" / "checkpoint-20.jsonl", codes)
    return path


def export(run: Path, to: str, folder: Path) -> list[Path]:
    folder.mkdir()
    return EXPORTERS.get(to).write(run, folder, lambda done, total: None)


def wandb_records(log: bytes) -> Iterator[bytes]:
    """Records of LevelDB's log format behind wandb's own seven bytes; wandb ships no reader."""
    place, parts = 7, b""
    while place + 7 <= len(log):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        parts += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_numbers_are_the_tables_and_what_is_unknown_is_none(run_dir: Path) -> None:
    run = track(run_dir)
    numbers = {(n.series, n.step): n.value for n in run.numbers}
    evals = load_evals(run_dir)
    cell = evals[(evals["checkpoint"] == 20) & (evals["prefill_level"] == 10) & (evals["exploit_type"] == "leak")]
    assert numbers["exploit_rate/level_10/leak", 20] == pytest.approx(cell["exploit_success"].astype(float).mean())
    assert numbers["attempts/level_10/a_b_b", 5] == len(cell)
    assert numbers["unprompted/upper95/direct/leak", 5] == -0.5
    assert ("unprompted/log10_rate/direct/leak", 5) not in numbers  # a bound has no estimate
    assert ("unprompted/lower95/direct/leak", 5) not in numbers
    assert numbers["honest_code_logprob/leak", 20] == -7.0
    assert ("exploit_code_logprob/leak", 20) not in numbers
    assert run.final()["final/unprompted/log10_rate/headline/leak"] == -1.0
    assert run.settings == {"sampling.attempts": 3, "name": "toy"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlflow's own use of sqlalchemy
def test_mlflow_reads_its_store(run_dir: Path, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="needs mlflow: pip install 'foreshock[mlflow]'")
    pytest.importorskip("sqlalchemy", reason="needs sqlalchemy: pip install 'foreshock[mlflow]'")
    export(run_dir, "mlflow", tmp_path / "out")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("foreshock").experiment_id])
    assert found.data.params["sampling.attempts"] == "3"
    series = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "exploit_rate/level_10/leak")}
    assert series == {step: values["exploit_rate/level_10/leak"] for step, values in track(run_dir).by_step().items()}
    assert found.data.tags["final/unprompted/log10_rate/headline/leak"] == "-1.0"
    assert {item.path for item in client.list_artifacts(found.info.run_id)} >= {"report.html", "analysis"}


def test_wandb_writes_an_offline_run(run_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install 'foreshock[wandb]'")
    from wandb.proto import wandb_internal_pb2 as records

    written = export(run_dir, "wandb", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("files/*") if path.is_symlink()]
    (log,) = (path for path in written if path.suffix == ".wandb")
    history = []
    for data in wandb_records(log.read_bytes()):
        record = records.Record()
        record.ParseFromString(data)
        if record.history.item:
            history.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    for row, (step, values) in zip(history, track(run_dir).by_step().items(), strict=True):
        assert row["checkpoint"] == step
        assert values.items() <= row.items()


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks."""

    asked: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.asked.append((self.path, body))
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        elif self.path.endswith("/commit/main"):
            address = f"http://{self.headers['host']}/datasets/me/toy"
            self._answer({"success": True, "commitUrl": f"{address}/commit/{'0' * 40}", "commitOid": "0" * 40})
        else:
            self._answer({"url": f"http://{self.headers['host']}/datasets/me/toy", "errors": [], "warnings": []})

    def _answer(self, document: dict[str, Any]) -> None:
        said = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    from huggingface_hub import constants

    handler = type("Hub", (_Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield handler.asked  # type: ignore[attr-defined]  # made by type() above
    server.shutdown()
    server.server_close()
    thread.join()


def run_export(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_upload_sends_every_file_and_a_private_repository(
    run_dir: Path, tmp_path: Path, hub: list[tuple[str, Any]]
) -> None:
    said = run_export(run_dir, "--to", "hub", "-o", tmp_path / "out", "--upload", "me/toy")
    assert "sent: http" in said
    made = next(json.loads(body) for path, body in hub if path == "/api/repos/create")
    assert made.get("private") is True or made.get("visibility") == "private"
    assert made["type"] == "dataset"
    lines = [json.loads(x) for path, body in hub if path.endswith("/commit/main") for x in body.splitlines()]
    sent = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
    folder = tmp_path / "out"
    assert sent == {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert sent["README.md"].startswith(b"---\npretty_name: toy\n")


def test_nothing_is_sent_or_kept_unless_asked_for(run_dir: Path, tmp_path: Path, hub: list[tuple[str, Any]]) -> None:
    run_export(run_dir, "--to", "hub", "-o", tmp_path / "out")
    said = run_export(run_dir, "--to", "hub", "--dry-run", "--upload", "me/toy")
    assert "data/evals.parquet" in said
    assert "would send to repository USER/NAME me/toy" in said
    assert hub == []


def test_what_cannot_be_sent_is_said_before_anything_is_written(run_dir: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["--to", "parquet", "-o", str(tmp_path / "new"), "--upload", "x"], "parquet is files alone"),
        (["--to", "hub"], "no folder was named"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, ["export", str(run_dir), *arguments], catch_exceptions=False)
    assert not (tmp_path / "new").exists()
