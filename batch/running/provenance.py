"""What a run was: the three files that let someone else repeat it and trust its end.

`config.yaml` holds the command and every setting, `metadata.json` the code, packages, machine and environment,
`status.json` how it ended. Secrets are removed by pattern, from variable names and from the command line, because a
list of known names always misses the next one.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata as packages
from typing import Any

import yaml

from foreshock import __version__
from foreshock.batch.config import RunConfig
from foreshock.batch.redact import redact_command, redact_environment, redact_text
from foreshock.batch.site import own_image
from foreshock.code_version import git_state
from foreshock.durable import atomic_write_bytes
from foreshock.errors import DiskFullError, ForeshockError, StopRequestedError
from foreshock.image_record import own_record
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.torch_build import gpu_names, torch_build


@functools.cache
def _installed_packages() -> tuple[str, ...]:
    """`name==version` of each; read once, as it takes a tenth of a second and a watch asks at every checkpoint."""
    found = [distribution.metadata for distribution in packages.distributions()]
    return tuple(sorted(f"{metadata['Name']}=={metadata['Version']}" for metadata in found))


def collect_metadata(secret: str | None = None) -> dict[str, Any]:
    """Everything about the code and the machine that a result may depend on, but the variable named `secret`."""
    image, build = own_image(), torch_build()
    return {
        "foreshock": __version__,
        "git": git_state(),
        "python": sys.version,
        "executable": sys.executable,
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpus": os.cpu_count(),
        "torch": build.get("__version__"),
        "cuda": build.get("cuda"),
        "gpus": gpu_names(),
        "image_digest": image.digest or image.content,
        "image": own_record(),
        "slurm": {name: value for name, value in sorted(os.environ.items()) if re.match(r"SLURM_.*ID$", name)},
        "environment": redact_environment(os.environ, secret),
        "pip_freeze": list(_installed_packages()),
        "recorded": _now(),
    }


def write_config(layout: RunLayout, config: RunConfig, command: Sequence[str]) -> None:
    """`config.yaml`: the command, the settings, and the keys under which earlier tools look for them."""
    document = {
        "command": redact_command(command),
        "checkpoint_dir": str(config.checkpoints.dir),
        "checkpoints": config.checkpoints.steps if config.checkpoints.steps == "all" else [*config.checkpoints.steps],
        "prefill_tokens_sweep": ",".join(map(str, config.prefill.levels)),
        "prefill_source": None if config.prefill.source is None else str(config.prefill.source),
        "dataset": config.problems.source,
        "split": config.problems.split,
        "attempts": config.sampling.attempts,
        "temperature": config.sampling.temperature,
        "config": config.to_yaml_dict(),
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    atomic_write_bytes(layout.config, text.encode())


def write_metadata(layout: RunLayout, secret: str | None = None, prompting: Mapping[str, Any] | None = None) -> None:
    """`metadata.json`; a resumed run keeps the first and adds itself under `resumed`. `prompting`: what prompts and
    stops resolved to when the run was planned."""
    now = collect_metadata(secret)
    if prompting is not None:
        now["prompting"] = dict(prompting)
    if layout.metadata.is_file():
        first = read_json(layout.metadata)
        first.setdefault("resumed", []).append(now)
        write_json(layout.metadata, first)
    else:
        write_json(layout.metadata, now)


@contextmanager
def recorded_status(layout: RunLayout) -> Iterator[dict[str, Any]]:
    """Keep `status.json` right however the block ends; the yielded dict's items are added to it.

    status: running, completed, failed, interrupted, or whatever the block put under "status" (a detached run is
    `submitted`). exit_reason: the message of an error, `exit code N`, or `interrupted`.
    """
    started, clock = _now(), time.monotonic()
    extra: dict[str, Any] = {}

    def say(status: str, reason: str | None, end: bool = True) -> None:
        write_status(
            layout,
            {
                "status": status,
                "exit_reason": None if reason is None else redact_text(reason),
                "start_time": started,
                "end_time": _now() if end else None,
                "duration_seconds": round(time.monotonic() - clock, 3) if end else None,
            }
            | {key: value for key, value in extra.items() if key not in ("status", "exit_reason")},
        )

    say("running", None, end=False)
    try:
        yield extra
    except SystemExit as leave:
        if leave.code is None or leave.code == 0:
            say("completed", "exit code 0")
        elif isinstance(leave.code, int):
            say("failed", f"exit code {leave.code}")
        else:
            say("failed", str(leave.code))
        raise
    except (KeyboardInterrupt, StopRequestedError) as stop:
        say("interrupted", str(stop) or "interrupted")
        raise
    except BaseException as error:
        if not isinstance(error, ForeshockError):
            extra.setdefault("traceback", redact_text(traceback.format_exc()))
        say("failed", f"{type(error).__name__}: {error}")
        raise
    say(extra.get("status", "completed"), extra.get("exit_reason"))


def write_status(layout: RunLayout, document: Mapping[str, Any]) -> None:
    """`status.json`; on a full disk into the blocks that the file has already, so that it does not stay "running"."""
    try:
        write_json(layout.status, document)
    except DiskFullError:
        if not layout.status.is_file():
            raise
        short = {key: value for key, value in document.items() if key != "traceback"}
        text = json.dumps(short).encode()
        with layout.status.open("r+b") as file:
            file.write(text)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
