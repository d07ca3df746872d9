"""Checkpoints in a repository on the Hugging Face hub: one revision (branch or tag) or one subfolder a step.

`prefetch` gets them on a machine with internet; planning and jobs read the Hugging Face cache alone. Which revisions
are there is read off the cache's own `refs`, so nothing of foreshock's is kept beside it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.records.checkpoint_names import DEFAULT_RULES, REVISION_RULES, some_of, sort_names

_REPO = re.compile(r"^(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
_NEEDED = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
_MAIN = "main"


@dataclass(frozen=True)
class CachedRevisions:
    """Step -> (revision, its snapshot) of what is cached; `snapshot` where subfolders may be the steps instead."""

    snapshot: Path
    steps: dict[int | None, tuple[str, Path]] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class FetchedRevision:
    """A revision and where it lies now. `was_here`: nothing had to be fetched."""

    name: str
    path: Path
    was_here: bool


def parse_repo(text: str) -> tuple[str, str | None]:
    """(repository id, revision) of `org/model` or `org/model@revision`. Raises ValueError."""
    match = _REPO.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a repository on the hub; valid: org/model or org/model@revision")
    return match["id"], match["revision"]


def repo_folder(text: str) -> Path:
    """The folder of a repository in the Hugging Face cache, whether it is there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=parse_repo(text)[0], repo_type="model")


def cached_revisions(text: str, pattern: str | None) -> CachedRevisions:
    """What the cache holds of a repository. Raises InputError that names `prefetch` if it holds nothing of it."""
    _, revision = parse_repo(text)
    folder = repo_folder(text)
    snapshots = dict(_snapshots(folder))
    if revision is not None:
        path = snapshots.get(revision, folder / "snapshots" / revision)
        if not path.is_dir():
            raise _not_here(text, folder, list(snapshots))
        named = sort_names([revision], pattern, text, REVISION_RULES)
        return CachedRevisions(path, dict.fromkeys(named.steps, (revision, path)) if _has_model(path) else {})
    named = sort_names([name for name in snapshots if name != _MAIN], pattern, text, REVISION_RULES)
    steps = {step: (name, snapshots[name]) for step, name in named.steps.items()}
    if not steps and _MAIN not in snapshots:
        raise _not_here(text, folder, list(snapshots))
    return CachedRevisions(snapshots.get(_MAIN, folder), steps, named.unmatched)


def _snapshots(folder: Path) -> Iterator[tuple[str, Path]]:
    """(revision, its snapshot) of every revision that was fetched by its name."""
    refs = folder / "refs"
    for file in sorted(refs.rglob("*")) if refs.is_dir() else ():
        if file.is_file():
            snapshot = folder / "snapshots" / file.read_text(encoding="utf-8").strip()
            if snapshot.is_dir():
                yield file.relative_to(refs).as_posix(), snapshot


def _has_model(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.json", "adapter_config.json"))


def _not_here(text: str, folder: Path, cached: list[str]) -> InputError:
    have = f"; cached revisions: {some_of(cached)}" if cached else ""
    return InputError(
        f"checkpoints.repo {text!r} is not in the Hugging Face cache{have}",
        path=folder,
        fix="get it, where there is internet, with: foreshock prefetch CONFIG.yaml",
    )


def fetch_revisions(text: str, pattern: str | None, wanted: Sequence[int | str] | None) -> Iterator[FetchedRevision]:
    """Get the revisions or subfolders of a repository that are steps, those `wanted` if given, yielding each.

    Raises InputError for a repository without steps and for what cannot be had.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = parse_repo(text)
    api = HfApi()
    try:
        if revision is None:
            refs = api.list_repo_refs(repo)
            names = sorted({ref.name for ref in (*refs.branches, *refs.tags)} - {_MAIN})
            revisions = sort_names(names, pattern, text, REVISION_RULES).steps
            if revisions:
                for name in _chosen(revisions, wanted, text):
                    yield _fetch(repo, name, _NEEDED)
                return
        at = revision or _MAIN
        folders = sorted({file.partition("/")[0] for file in api.list_repo_files(repo, revision=at) if "/" in file})
        steps = sort_names(folders, pattern, text, DEFAULT_RULES).steps
        inside = [f"{name}/{kind}" for name in _chosen(steps, wanted, text) for kind in _NEEDED]
        yield _fetch(repo, at, [*inside, "tokenizer*", "*.jinja", "vocab*", "merges.txt"] if inside else _NEEDED)
    except (HfHubHTTPError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"checkpoints.repo {text!r} could not be fetched: {' '.join(str(error).split())[:300]}",
            fix="check the name, its revision and this machine's internet",
        ) from error


def _chosen(steps: dict[int | None, str], wanted: Sequence[int | str] | None, text: str) -> list[str]:
    if wanted is None:
        return list(steps.values())
    by_name = {"final" if step is None else step: name for step, name in steps.items()}
    missing = [step for step in wanted if step not in by_name]
    if missing and steps:
        raise InputError(
            f"checkpoints.steps: {text} has no revision or subfolder for {', '.join(map(str, missing))}; present: "
            f"{', '.join(map(str, by_name))}"
        )
    return [by_name[step] for step in wanted if step in by_name]


def _fetch(repo: str, revision: str, patterns: Sequence[str]) -> FetchedRevision:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name = f"{repo}@{revision}"
    before: Path | None = None
    with contextlib.suppress(LocalEntryNotFoundError, OSError):
        before = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns), local_files_only=True))
    path = Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    return FetchedRevision(name, path, before == path)
