"""What was seen when a checkpoint's weights were loaded, kept with the run."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.spec import Checkpoint


def record_load(
    layout: RunLayout, checkpoint: Checkpoint, engine: Engine, *, swapped: bool, together: bool = False
) -> None:
    """Write `admission/NAME.json`: by which engine and how it was loaded, and what the engine has to say of it.

    Loading itself refuses what is not admitted (weights that are not finite, tensors missing, a server that does not
    stop), so that a record is there says that it was. The last of several loads is kept. With `together`, in runs of
    very many checkpoints, each process has one file with a list of all that it loaded.
    """
    document: dict[str, Any] = {
        "checkpoint": checkpoint.name,
        "path": str(checkpoint.path),
        "engine": engine.name,
        "loaded": "swapped in" if swapped else "built",
        "notes": list(getattr(engine, "notes", [])),
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    layout.admission.mkdir(parents=True, exist_ok=True)
    if together:
        path = layout.admission / f"loads-{socket.gethostname()}-{os.getpid()}.json"
        write_json(path, [*_read(path), document])
        return
    run = checkpoint.run.replace("/", "_")
    write_json(layout.admission / f"{run}-{checkpoint.name}.json", document)


def _read(path: Path) -> list[dict[str, Any]]:
    """What this process loaded before; of a damaged file nothing."""
    with suppress(InputError, OSError):
        found = read_json(path)
        return found if isinstance(found, list) else []
    return []
