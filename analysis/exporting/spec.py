"""What an exporter is: a name, a line for help, and how it writes a run.

Packages add their own under the entry-point group `foreshock.exporters`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foreshock.plugins import Registry

OnProgress = Callable[[int, int], None]
"""Files done and files to do."""


@dataclass(frozen=True, slots=True)
class ExporterSpec:
    """One exporter. `write(run_dir, folder, on_progress)` writes below `folder`, which exists and is empty, and returns
    the files it made; it raises InputError, with a fix, where a package that it needs is not installed.

    `send(run_dir, folder, target)`, where there is one, sends what was written to `target` (called `target_name` in
    messages) and returns where it is now.
    """

    name: str
    summary: str
    write: Callable[[Path, Path, OnProgress], list[Path]]
    send: Callable[[Path, Path, str], str] | None = None
    target_name: str = ""


EXPORTERS: Registry[ExporterSpec] = Registry(
    "exporter",
    "foreshock.exporters",
    "foreshock.analysis.exporting.spec:ExporterSpec",
    {
        "files": "foreshock.analysis.exporting.single_files:SPEC",
        "hub": "foreshock.analysis.exporting.hub:SPEC",
        "inspect": "foreshock.analysis.exporting.inspect_logs:SPEC",
        "mlflow": "foreshock.analysis.exporting.mlflow_run:SPEC",
        "parquet": "foreshock.analysis.exporting.parquet:SPEC",
        "wandb": "foreshock.analysis.exporting.wandb_run:SPEC",
    },
)
