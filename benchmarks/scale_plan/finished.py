"""A run whose work is done: every shard of its plan sealed by the writer that workers use, with made-up rows."""

from __future__ import annotations

import os
from pathlib import Path

from foreshock.jobs.records.bundling import Bundling, bundle_run
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile, read_pack
from foreshock.jobs.records.shards import Origin, ShardStore
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobSpec


def finish(layout: RunLayout) -> str:
    """Seal every shard. Nothing is synced to disk, which would take hours and is not what is measured."""
    os.fsync = lambda handle: None
    store, origin = ShardStore(layout), Origin("0" * 40, None, 3)
    specs = PlanFile.read(layout).specs
    for spec in specs:
        writer = store.open(spec, origin)
        writer.write_part([row for task in spec.task_ids for row in _rows(spec, task)])
        writer.seal(timings={"generate_s": 1.0, "rows": float(spec.n_rows), "load_s": 1.0, "first_load": 1.0})
    return f"{len(specs)} shards"


def bundle(layout: RunLayout) -> str:
    """Bundle every task's shards, as its worker does, then what is left, as the last job does. Not synced either."""
    os.fsync = lambda handle: None
    plan, store = PlanFile.read(layout), ShardStore(layout)
    for task in read_pack(layout, 0, plan):
        bundling = Bundling(store, task.specs, plan.settings.bundle_from, print)
        bundling.sealed(len(task.specs))
        bundling.join()
    bundle_run(layout, plan.specs, print)
    sizes = [path.stat().st_size for path in layout.bundles.iterdir()]
    return f"{len(sizes)} bundles, {sum(sizes) / 2**20:.0f} MB"


def forget(layout: RunLayout) -> None:
    """Remove what `status` remembers of shards."""
    (layout.progress / "sealed-shards.json").unlink(missing_ok=True)


def _rows(spec: JobSpec, task: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for level in spec.levels:
        for attempt in spec.attempts:
            row: dict[str, object] = {"task_id": task, "attempt_idx": attempt, "prefill_level": level}
            row |= {"checkpoint": spec.checkpoint.name, "prefill_sha256": "0" * 64}
            if spec.kind in SAMPLED_KINDS:
                row |= {"exploit_success": False, "finish_reason": "stop", "code_status": "ok"}
            rows.append(row)
    return rows


def count_files(root: Path) -> str:
    """Files by the folder that they lie under, and folders."""
    counts: dict[str, int] = {}
    n_folders = 0
    for folder, _, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        top = parts[0] if parts else "."
        counts[top] = counts.get(top, 0) + len(names)
        n_folders += 1
    return ", ".join(f"{name}: {n}" for name, n in sorted(counts.items())) + f", folders: {n_folders}"
