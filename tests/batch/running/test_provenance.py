"""Provenance: the status file is right however a run ends, and no secret reaches any file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from foreshock.batch import redact
from foreshock.batch.config_file import parse_config
from foreshock.batch.running import provenance
from foreshock.errors import InputError, StopRequestedError
from foreshock.jobs.records.layout import RunLayout


def status_after(tmp_path: Path, leave: BaseException | None) -> dict[str, object]:
    layout = RunLayout(tmp_path)
    left: BaseException | None = None
    try:
        with provenance.recorded_status(layout) as extra:
            extra["n"] = 1
            assert json.loads(layout.status.read_text())["status"] == "running"
            if leave is not None:
                raise leave
    except BaseException as error:  # noqa: BLE001 - every way out is under test
        left = error
    assert left is leave
    document: dict[str, object] = json.loads(layout.status.read_text())
    assert document["end_time"] is not None
    assert isinstance(document["duration_seconds"], float)
    assert document["n"] == 1
    return document


@pytest.mark.parametrize(
    ("leave", "status", "reason"),
    [
        (None, "completed", None),
        (SystemExit(0), "completed", "exit code 0"),
        (SystemExit(), "completed", "exit code 0"),
        (SystemExit(3), "failed", "exit code 3"),
        (SystemExit("disk is full"), "failed", "disk is full"),
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (StopRequestedError("stopped by hand"), "interrupted", "stopped by hand"),
        (ValueError("boom"), "failed", "ValueError: boom"),
        (InputError("bad line"), "failed", "InputError: bad line"),
    ],
)
def test_the_status_is_right_however_a_run_ends(
    tmp_path: Path, leave: BaseException | None, status: str, reason: str | None
) -> None:
    document = status_after(tmp_path, leave)
    assert (document["status"], document["exit_reason"]) == (status, reason)


def test_the_block_may_name_its_own_status(tmp_path: Path) -> None:
    with provenance.recorded_status(RunLayout(tmp_path)) as extra:
        extra["status"] = "submitted"
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "submitted"


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "my_passwd", "SSH_KEY", "GITHUB_PAT_TOKEN",
     "X_AUTH", "SESSION_COOKIE", "wandb_api_key", "GOOGLE_APPLICATION_CREDENTIALS"],
)  # fmt: skip
def test_secrets_are_removed_by_the_pattern_of_their_name(name: str) -> None:
    assert redact.redact_environment({name: "hunter2"}) == {name: redact.REMOVED}


def test_secrets_are_removed_by_the_look_of_their_value() -> None:
    environment = {
        "HF_ENDPOINT": "https://user:hunter2@host/path",
        "LD_NOTE": "use hf_abcdefghijklmnopqrstu here",
        "SLURM_JOB_NAME": "sk-abcdefghijklmnopqrst",
    }
    shown = json.dumps(redact.redact_environment(environment))
    assert not re.search("hunter2|abcdefghij", shown)
    assert "host/path" in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLACK_HOOK", "https://hooks.slack.com/services/T1/B2/hunter2"),
        ("SENTRY_DSN", "https://hunter2@o1.ingest.sentry.io/42"),
        ("DATABASE_URL", "postgres://me@db/hunter2"),
        ("SOME_NAME_NOBODY_LISTED", "hunter2"),
        ("SLURM_JWT", "hunter2"),
    ],
)
def test_variables_that_nobody_listed_are_named_without_their_value(name: str, value: str) -> None:
    assert redact.redact_environment({name: value}) == {name: redact.REMOVED}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T1/B2/hunter2", f"https://hooks.slack.com/{redact.REMOVED}"),
        ("https://hunter2@o1.ingest.sentry.io/42", f"https://{redact.REMOVED}@o1.ingest.sentry.io/{redact.REMOVED}"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("s3://bucket/run-20261129-222339-nogit/a.jsonl", "s3://bucket/run-20261129-222339-nogit/a.jsonl"),
        ("https://host/x?a=hunter2", f"https://host/x?a={redact.REMOVED}"),
    ],
)
def test_urls_keep_their_host_and_lose_what_lets_somebody_in(url: str, shown: str) -> None:
    assert redact.redact_text(f"see {url} there") == f"see {shown} there"


def test_harmless_variables_are_kept() -> None:
    kept = {"PWD": "/home/me", "PATH": "/bin", "SLURM_JOB_ID": "7", "TOKENIZERS_PARALLELISM": "false"}
    assert redact.redact_environment(kept) == kept


def test_secrets_on_the_command_line_are_removed() -> None:
    shown = redact.redact_command(
        ["foreshock", "run", "--api-key", "hunter2", "--token=hunter2", "x.yaml", "https://a:hunter2@b/"]
    )
    assert "hunter2" not in shown
    assert shown.startswith("foreshock run --api-key")
    assert "x.yaml" in shown


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-Ab3dEf6hIj9kLm2n",
        "hf_abcdefghijklmnopqrstu",
        "ghs_16CharactersAtLeast1",
        "AKIAIOSFODNN7EXAMPLE",
        "postgres://:hunter2hunter2@db/x",
        "https://host/x?a=1&token=hunter2hunter2",
        "Authorization: Bearer hunter2hunter2",
    ],
)
def test_values_that_look_like_secrets_are_removed(secret: str) -> None:
    assert redact.REMOVED in redact.redact_text(f"see {secret}")


def test_the_command_is_kept_whole_where_nothing_is_secret() -> None:
    command = [
        "foreshock", "eval", "disk-experiment-2024-run/checkpoint-1", "--prefill-tokens", "10", "--max-tokens=512",
        "--prefill-from", "/data/task_descriptions_long.jsonl", "--problems", "risk-analysis-of-models-v2.jsonl",
    ]  # fmt: skip
    assert redact.redact_command(command) == " ".join(command)


def test_a_secret_in_an_exit_message_is_removed(tmp_path: Path) -> None:
    document = status_after(tmp_path, SystemExit("cannot reach https://me:hunter2@host/"))
    assert "hunter2" not in json.dumps(document)


def test_the_configuration_file_serves_both_tools(tmp_path: Path) -> None:
    config = parse_config({"checkpoints": {"dir": "/m", "steps": [1, 2]}, "prefill": {"levels": [0]}})
    provenance.write_config(RunLayout(tmp_path), config, ["foreshock", "run", "x.yaml"])
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert document["command"] == "foreshock run x.yaml"
    assert document["prefill_tokens_sweep"] == "0"
    assert document["checkpoint_dir"] == "/m"
    assert document["checkpoints"] == [1, 2]
    assert parse_config(document["config"]) == config


def test_metadata_says_what_a_result_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    layout = RunLayout(tmp_path)
    provenance.write_metadata(layout)
    provenance.write_metadata(layout)
    document = json.loads(layout.metadata.read_text())
    assert document["python"] == sys.version
    assert set(document["git"]) == {"commit", "branch", "dirty"}
    assert document["slurm"] == {"SLURM_JOB_ID": "42"}
    assert any(line.startswith("torch==") for line in document["pip_freeze"])
    assert len(document["resumed"]) == 1
    assert "hunter2" not in layout.metadata.read_text()
