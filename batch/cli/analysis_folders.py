"""Where an analysis writes: dated folders in the results directory that its run lies in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any


def results_of(run_dir: Path) -> Path:
    """The results/ directory that a run, or a folder of one, lies in; `results` here for one that lies elsewhere."""
    found = [above.parent for above in run_dir.resolve().parents[:2] if above.name == "prefill_sensitivity"]
    return found[0] if found else Path("results")


def new_analysis_folder(results: Path) -> Path:
    """A dated folder below `results`/full_analysis that is not there yet."""
    from foreshock.jobs.records.layout import ResultsLayout

    return _unused(ResultsLayout(results).full_analysis(datetime.now()))


def _unused(first: Path) -> Path:
    folder = first
    for i in range(2, 1000):
        if not folder.exists():
            break
        folder = first.with_name(f"{first.name}-{i}")
    return folder


@contextmanager
def run_context(results: Path, below: Path | None, prefix: str, arguments: dict[str, Any]) -> Iterator[Path]:
    """A new full_analysis directory, or a dated one of `prefix` in the folder `below`, with config.yaml, metadata.json
    and a status.json that ends right."""
    import yaml

    from foreshock.batch.redact import redact_command
    from foreshock.batch.running.provenance import recorded_status, write_metadata
    from foreshock.batch.running.run import command_line
    from foreshock.code_version import short_commit
    from foreshock.durable import atomic_write_bytes
    from foreshock.jobs.records.layout import RunLayout, run_dir_name

    if below is None:
        context = RunLayout(new_analysis_folder(results))
    else:
        context = RunLayout(_unused(below / run_dir_name(prefix, datetime.now(), short_commit())))
    document = {"command": redact_command(command_line()), **arguments}
    atomic_write_bytes(context.config, yaml.safe_dump(document, sort_keys=False).encode())
    write_metadata(context)
    with recorded_status(context):
        yield context.root
