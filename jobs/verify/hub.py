"""Problems from a local file or from a data set on the Hugging Face hub.

A hub data set is named with its revision. Problems decide every number of a run, and a branch name is not a version.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.problems import load_problems

_SOURCE = re.compile(r"^hf://(?:datasets/)?(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
_FILES = ("*.parquet", "*.jsonl")
_SPLIT_OF = re.compile(r"^(?P<split>.+?)(?:-\d{5}-of-\d{5})?\.(?:parquet|jsonl)$")
_EXAMPLE = "hf://datasets/ORGANISATION/NAME@REVISION"


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set on the hub at one revision (commit hash or tag)."""

    dataset_id: str
    revision: str


def parse_hub_source(source: str) -> HubDataset | None:
    """The data set that `hf://datasets/ORG/NAME@REVISION` names; None for anything that is not an hf:// address."""
    if not source.startswith("hf:"):
        return None
    match = _SOURCE.match(source)
    if match is None:
        raise InputError(f"problems source {source!r} is not understood; valid: {_EXAMPLE}, or a file")
    if match["revision"] is None:
        raise InputError(f"problems source {source!r} names no revision; valid: {_EXAMPLE}")
    return HubDataset(match["id"], match["revision"])


def load_problem_source(
    source: str, split: str | None = None, download: Callable[[HubDataset], Path] | None = None
) -> list[Problem]:
    """Problems of a .jsonl or .parquet file, or of one split of a hub data set (`hf://datasets/ORG/NAME@REVISION`).

    split: needed when the data set has several. download: gets the data set's folder; the hub's own cache by default.
    Raises InputError naming file and line, or the splits there are.
    """
    dataset = parse_hub_source(source)
    if dataset is None:
        return load_problems(Path(source).expanduser())
    folder = (download or _download)(dataset)
    splits: dict[str, list[Path]] = {}
    for pattern in _FILES:
        for path in sorted(folder.rglob(pattern)):
            match = _SPLIT_OF.match(path.name)
            if match is not None:
                splits.setdefault(match["split"], []).append(path)
    chosen = next(iter(splits), None) if split is None and len(splits) == 1 else split
    if chosen not in splits:
        raise InputError(
            f"{source} has no split {split!r}; there: {', '.join(sorted(splits)) or 'no .parquet or .jsonl files'}"
        )
    problems: list[Problem] = []
    for path in splits[chosen]:
        problems += load_problems(path)
    return problems


def fetch_dataset(dataset: HubDataset) -> tuple[Path, bool]:
    """The data set's folder in the hub's cache, and whether it was there already. Raises InputError."""
    import huggingface_hub

    try:
        return _snapshot(dataset, local_files_only=True), True
    except (huggingface_hub.errors.LocalEntryNotFoundError, OSError, ValueError):
        return _download(dataset), False


def _snapshot(dataset: HubDataset, local_files_only: bool) -> Path:
    import huggingface_hub

    return Path(
        huggingface_hub.snapshot_download(
            dataset.dataset_id,
            repo_type="dataset",
            revision=dataset.revision,
            allow_patterns=list(_FILES),
            local_files_only=local_files_only,
        )
    )


def _download(dataset: HubDataset) -> Path:
    import huggingface_hub

    try:
        return _snapshot(dataset, local_files_only=False)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise InputError(
            f"could not get data set {dataset.dataset_id} at {dataset.revision}: {_message(error)}",
            fix="check the name and revision, or fetch it where there is internet: `foreshock prefetch CONFIG.yaml`",
        ) from error


def _message(error: Exception) -> str:
    """The first two lines of what the hub's client says; the rest is about accounts."""
    return " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])
