"""Get what a run takes from the internet, on a machine that has it, so that planning and jobs can do without.

Nothing of its own is kept. What is fetched goes to the Hugging Face cache, where planning looks for it, so a run
after it is the same as one on a machine that always had internet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.checkpoints import discover_checkpoints
from foreshock.batch.planning.problems import hub_source
from foreshock.jobs.model_files.adapters import fetch_base, is_adapter
from foreshock.jobs.model_files.hub_checkpoints import fetch_revisions
from foreshock.jobs.verify.hub import fetch_dataset


@dataclass(frozen=True)
class Fetched:
    """Something from the internet and the folder where it lies now. `was_here`: nothing had to be fetched."""

    what: str
    name: str
    path: Path
    was_here: bool


def prefetch(config: RunConfig) -> Iterator[Fetched]:
    """Fetch the problems' data set, the checkpoints' repository and the adapters' base models, yielding each as it is
    there.

    Raises InputError for what cannot be had.
    """
    dataset = hub_source(config.problems)
    if dataset is not None:
        path, was_here = fetch_dataset(dataset)
        yield Fetched("problems", f"{dataset.dataset_id}@{dataset.revision}", path, was_here)
    if config.checkpoints.repo is not None:
        steps = config.checkpoints.steps
        wanted = None if steps == "all" else steps
        for fetched in fetch_revisions(config.checkpoints.repo, config.checkpoints.pattern, wanted):
            yield Fetched("checkpoints", fetched.name, fetched.path, fetched.was_here)
    bases: set[Path] = set()
    for checkpoint in discover_checkpoints(config.checkpoints):
        if not is_adapter(checkpoint.path):
            continue
        base, was_here = fetch_base(checkpoint.path)
        if base not in bases:
            bases.add(base)
            yield Fetched("base model", f"of {checkpoint.name}", base, was_here)
