"""Costs learned from the user's earlier runs: seconds a row and a load, by model size, device and engine.

Every run that is aggregated leaves `costs.json` in its directory, made from the manifests of its shards; the store is
these files below the same results directory, so that nothing is written to by two runs, and what is deleted is
forgotten. A plan takes the run whose model is closest in size, and says which.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.batch.packing.cost import CostModel, RowCost
from foreshock.errors import InputError
from foreshock.jobs.device_name import CPU
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import check_weights
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.shards import ShardManifest, ShardStore
from foreshock.jobs.records.spec import SAMPLED_KINDS, JobKind, JobSpec

COSTS_FILE = "costs.json"
CALIBRATIONS = "calibrations"
"""Folder of `plan --calibrate`'s runs, beside that of all others."""
WORK_PHASES = ("generate_s", "verify_s", "score_s")
_FORMAT = 1
_LEAST_ROWS = 8
_SAME_SIZE = math.log(1.25)
_CUT_SHORT = 0.8
"""From this share of `max_tokens` on, continuations were cut rather than ended, and longer ones would go on."""


@dataclass(frozen=True)
class Learned:
    """A cost model, and in words where it comes from."""

    cost: CostModel
    source: str


def weight_bytes(path: Path) -> int | None:
    """Size of a checkpoint's weights on disk, of an adapter its base's; None if they are not to be seen."""
    try:
        return sum(file.stat().st_size for file in check_weights(base_of(path) if is_adapter(path) else path))
    except (InputError, OSError, ValueError):
        return None


def record_costs(layout: RunLayout, plan: PlanFile) -> None:
    """Write what the run's shards measured, by device; nothing if no shard measured anything."""
    store = ShardStore(layout)
    by_device: dict[str, list[tuple[JobSpec, ShardManifest]]] = defaultdict(list)
    for spec in plan.specs:
        manifest = store.manifest(spec)
        if manifest is not None and manifest.timings and manifest.device is not None:
            by_device[manifest.device].append((spec, manifest))
    size = weight_bytes(plan.specs[-1].checkpoint.path) if plan.specs else None
    entries = [_entry(device, plan, size, shards) for device, shards in sorted(by_device.items())]
    if entries and size:
        write_json(layout.root / COSTS_FILE, {"format": _FORMAT, "entries": entries})


def _entry(device: str, plan: PlanFile, size: int | None, shards: Sequence[tuple[JobSpec, ShardManifest]]) -> Any:
    rows: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    loads: dict[bool, list[float]] = {True: [], False: []}
    for spec, manifest in shards:
        timings = manifest.timings
        sums = rows[(spec.kind.value, max(spec.levels, default=0))]
        sums[0] += timings.get("rows", 0.0)
        sums[1] += sum(timings.get(name, 0.0) for name in WORK_PHASES)
        sums[2] += timings.get("output_tokens", 0.0)
        if "load_s" in timings:
            loads[bool(timings.get("first_load", 1.0))].append(timings["load_s"])
    return {
        "engine": plan.settings.engine,
        "device": device,
        "weight_bytes": size,
        "max_tokens": max((spec.sampling.max_tokens for spec, _ in shards), default=0),
        "load_s": _mean(loads[True]),
        "swap_s": _mean(loads[False]),
        "rows": [
            {"kind": kind, "level": level, "rows": n, "seconds": seconds, "tokens": tokens}
            for (kind, level), (n, seconds, tokens) in sorted(rows.items())
            if n and seconds
        ],
    }


def learned_costs(
    runs: Path, guess: CostModel, engine: str, size: int | None, max_tokens: int, *, on_gpu: bool
) -> Learned | None:
    """Costs of the earlier run below `runs` whose model is closest in size; None without one, or of unknown size.

    Seconds a row are those measured per token times the tokens expected; of a model of another size all is scaled by
    the ratio of the sizes.
    """
    if size is None:
        return None
    found = [
        (
            abs(math.log(entry["weight_bytes"] / size)),
            -sum(row["rows"] for row in entry["rows"]),
            path.parent.name,
            entry,
        )
        for path in sorted([*runs.glob(f"*/{COSTS_FILE}"), *(runs.parent / CALIBRATIONS).glob(f"*/{COSTS_FILE}")])
        for entry in _entries(path)
        if entry["engine"] == engine
        and (entry["device"] != CPU) == on_gpu
        and sum(row["rows"] for row in entry["rows"]) >= _LEAST_ROWS
    ]
    if not found:
        return None
    distance, _, run, entry = min(found, key=lambda one: one[:3])
    ratio = size / entry["weight_bytes"] if distance > _SAME_SIZE else 1.0
    rows = tuple(
        RowCost(
            JobKind(row["kind"]), row["level"], ratio * row["seconds"] / row["rows"] * _longer(row, entry, max_tokens)
        )
        for row in entry["rows"]
    )
    load_s = guess.load_s if entry["load_s"] is None else ratio * entry["load_s"]
    swap_s = min(load_s, guess.swap_s if entry["swap_s"] is None else ratio * entry["swap_s"])
    scaled = "" if ratio == 1.0 else f", scaled from {_gib(entry['weight_bytes'])}"
    source = f"learned from {run} ({entry['engine']} on {entry['device']}{scaled})"
    return Learned(CostModel(load_s=load_s, swap_s=swap_s, rows=rows), source)


def _longer(row: dict[str, Any], entry: dict[str, Any], max_tokens: int) -> float:
    """How many times the tokens of the earlier run's rows this run's are expected to have."""
    if JobKind(row["kind"]) not in SAMPLED_KINDS or not row["tokens"] or not entry["max_tokens"]:
        return 1.0
    mean = row["tokens"] / row["rows"]
    expected = mean * max_tokens / entry["max_tokens"] if mean > _CUT_SHORT * entry["max_tokens"] else mean
    return float(min(expected, max_tokens) / mean)


def _entries(path: Path) -> list[dict[str, Any]]:
    """Of a file that this version wrote; none of any other, since a cost is only ever a guess."""
    try:
        data = read_json(path)
        if data["format"] != _FORMAT:
            return []
        return [entry for entry in data["entries"] if entry["weight_bytes"] > 0 and entry["rows"]]
    except (InputError, OSError, KeyError, TypeError):
        return []


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size > 2**29 else f"{size / 2**20:.1f} MiB"


def scaled_guess(guess: CostModel, of_gib: float | None, size: int | None) -> Learned:
    """A profile's guesses, which are of a model of `of_gib`, for one of `size` bytes; as they are where that is
    unknown."""
    if of_gib is None or size is None:
        return Learned(guess, "guesses of the profile, whatever the model" if of_gib is None else "guesses")
    ratio = max(size / 2**30 / of_gib, 0.01)
    rows = tuple(RowCost(row.kind, row.level, row.seconds * ratio) for row in guess.rows)
    load_s = 30 + max(0.0, guess.load_s - 30) * ratio  # starting the engine takes its time with any model
    cost = CostModel(load_s=load_s, swap_s=min(load_s, guess.swap_s * ratio), rows=rows, per_spec_s=guess.per_spec_s)
    return Learned(cost, f"guesses of the profile, scaled from {of_gib:g} GiB to {_gib(size)}; --calibrate measures")
