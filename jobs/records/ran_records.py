"""What computed a run's shards: one record below `ran/` for each different place, named by manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from foreshock.errors import InputError
from foreshock.image_record import ImageIdentity
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.ran import Planned, Ran, deviations


def planned_by(settings: WorkerSettings) -> Planned:
    """What a plan expects its workers to be."""
    image = ImageIdentity(settings.image_digest, settings.image_content)
    return Planned(settings.git_commit, settings.code_sha256, image)


def write_ran(layout: RunLayout, ran: Ran) -> str:
    """File a record, which any number of workers may do at once; returns its name."""
    path = _file(layout, ran.key)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, ran.to_json())
    return ran.key


def read_ran(layout: RunLayout, key: str) -> Ran | None:
    """A record; None if it is gone or damaged."""
    try:
        return Ran.from_json(read_json(_file(layout, key)))
    except (InputError, OSError, KeyError, TypeError):
        return None


def all_ran(layout: RunLayout) -> list[Ran]:
    """Every record of a run, by name."""
    found = [read_ran(layout, path.stem) for path in sorted((layout.root / "ran").glob("*.json"))]
    return [ran for ran in found if ran is not None]


def deviating_shards(layout: RunLayout, shards: Mapping[str | None, int], planned: Planned) -> list[str]:
    """A line for each way in which shards were not computed as planned; `shards` counts them by record."""
    counted: Counter[str] = Counter()
    for key, count in shards.items():
        if key is None:
            continue
        ran = read_ran(layout, key)
        found = ["computed by what nobody knows: its record is gone"] if ran is None else deviations(planned, ran)
        for text in found:
            counted[text] += count
    return [f"{count} shard{'' if count == 1 else 's'} {text}" for text, count in counted.most_common()]


def _file(layout: RunLayout, key: str) -> Path:
    return layout.root / "ran" / f"{key}.json"
