"""Edits of a run's config.yaml after it was planned: refused with a diff, because its rows are of the planned settings.

What changes only where work runs, or what is made of the rows, may be edited; `resume` takes it as it is now.
"""

from __future__ import annotations

from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout

_FREE = ("name", "analysis.", "execution.cluster", "execution.workers", "execution.max_minutes", "execution.profile",
         "execution.more_profiles", "execution.heal")  # fmt: skip


def freeze_config(layout: RunLayout, config: RunConfig) -> None:
    """Keep the configuration that a run is planned with, beside its other inputs."""
    write_json(layout.frozen_config, config.to_yaml_dict())


def require_unedited(layout: RunLayout, config: RunConfig) -> None:
    """Raise InputError with every key that is not as it was planned. A run planned before this was kept is trusted."""
    if not layout.frozen_config.is_file():
        return
    planned, now = _flat(read_json(layout.frozen_config)), _flat(config.to_yaml_dict())
    lines = [
        f"  {key}: {planned.get(key)!r} when it was planned, {now.get(key)!r} now"
        for key in sorted(planned.keys() | now.keys())
        if planned.get(key) != now.get(key) and not key.startswith(_FREE)
    ]
    if lines:
        raise InputError(
            "was edited after the run was planned, and rows of both settings must not be mixed:\n" + "\n".join(lines),
            path=layout.config,
            fix=f"put the values back and resume, or begin another run with them: foreshock run {layout.config}",
        )


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values; a list is a value."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
