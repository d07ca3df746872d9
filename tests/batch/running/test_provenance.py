"""Provenance: the status file is right however a run ends, and no secret reaches any file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from foreshock.batch import redact
from foreshock.batch.cli.app import app
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
    assert f"@host/{redact.REMOVED}" in shown


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
        ("https://host/v1?a=hunter2", f"https://host/v1?a={redact.REMOVED}"),
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


HIDDEN = "hunter2hunter2"
SECRETS = [
    "sk-proj-Ab3dEf6hIj9kLm2n", "hf_abcdefghijklmnopqrstu", "ghs_16CharactersAtLeast1", "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijk", "glpat-abcdefghij1234567890", "xoxb-123456789012-abcdefghijkl",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", f"-----BEGIN RSA PRIVATE KEY-----{HIDDEN}",
    f"postgres://:{HIDDEN}@db/x", f"redis://{HIDDEN}@db:6379/0", f"mysql://db/x?user=me&password={HIDDEN}",
    f"host=db user=me password={HIDDEN} dbname=x", f"Server=db;User Id=me;Pwd={HIDDEN};",
    f"AccountName=me;AccountKey={HIDDEN}==;EndpointSuffix=x", f"https://{HIDDEN}@o1.ingest.sentry.io/42",
    f"https://host/x?a=1&token={HIDDEN}", f"https://hooks.slack.com/services/T1/B2/{HIDDEN}",
    f"https://discord.com/api/webhooks/12/{HIDDEN}", f"https://api.telegram.org/bot1:{HIDDEN}/sendMessage",
    f"https://maker.example/trigger/alarm/with/key/{HIDDEN}", f"https://ntfy.example/{HIDDEN}",
    f"https://chat.example/v1/spaces/A/messages?{HIDDEN}", f"https://x.example/#access={HIDDEN}",
    f"Authorization: Bearer {HIDDEN}", f"Authorization: Basic {HIDDEN}", f"X-Api-Key: {HIDDEN}",
    f'{{"api_key": "{HIDDEN}"}}', f"{{'token': '{HIDDEN}'}}", f"aws_secret_access_key = {HIDDEN}",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_values_that_look_like_secrets_are_removed(secret: str) -> None:
    for shown in (redact.redact_text(f"see {secret}"), redact.redact_command(["foreshock", "run", secret])):
        assert redact.REMOVED in shown
        assert HIDDEN not in shown
    for option in ("--on-alarm", "--sentry", "--header", "-H", "--verifier-option", "--webhook"):
        assert HIDDEN not in redact.redact_command(["foreshock", "watch", option, secret])
        assert HIDDEN not in redact.redact_command(["train.py", f"{option}={secret}"])
    for name in ("ALARM_URL", "SLURM_JOB_COMMENT", "NCCL_NOTE", "PYTHONSTARTUP"):
        assert HIDDEN not in str(redact.redact_environment({name: secret}))


def test_what_is_no_secret_stays_readable() -> None:
    for text in (
        "KeyError: 'task_7'", "the tokenizer of checkpoint-64: no token 151643", "max_tokens: 512", "/a: no such file",
        "http://127.0.0.1:8000/v1: connection refused", "stop_token_ids=[1, 2]", "n_keys=3", "token_id: 7",
    ):  # fmt: skip
        assert redact.redact_text(text) == text


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


def test_every_option_of_the_command_line_is_known_as_harmless_or_kept_back() -> None:
    kept_back = {"key", "on-alarm", "webhook", "verifier-option", "pip-config"}

    def options(command: Any) -> set[tuple[str, bool]]:
        own = {(name.lstrip("-"), bool(p.is_flag)) for p in command.params if hasattr(p, "is_flag") for name in p.opts}
        return own.union(*(options(sub) for sub in getattr(command, "commands", {}).values()))

    for name, is_flag in options(get_command(app)):
        if name.endswith("-completion"):  # the library's own
            continue
        shown = redact.redact_command(["foreshock", f"--{name}", "value"])
        assert ("value" in shown) is (name not in kept_back), (name, is_flag)
