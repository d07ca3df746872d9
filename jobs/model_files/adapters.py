"""LoRA adapter directories: rank and scale of each module, and where their base model lies.

Read without the peft library: the files are two (a JSON and one safetensors) and the arithmetic is one line
(W + scale * B A); `adapter_config` refuses what lies outside it. Light: nothing here needs torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.adapter_config import AdapterError as AdapterError
from foreshock.jobs.model_files.adapter_config import check_config
from foreshock.jobs.model_files.safetensors_headers import stored_tensors
from foreshock.jobs.model_files.weight_files import ADAPTER_CONFIG
from foreshock.jobs.model_files.weight_files import is_adapter as is_adapter

_LISTED_BASES = "base_model_name_or_path"
_NEEDED = ("*.json", "model*.safetensors", "*.model", "*.jinja", "*.txt")
"""A model's files, without the other formats of its weights that many repositories on the hub hold beside them."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: rank and alpha by module, the base it belongs to, the modules it replaces whole."""

    path: Path
    base: Path
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False
    modules_to_save: tuple[str, ...] = ()
    weight_tying: bool = False

    @property
    def max_rank(self) -> int:
        """The largest rank of any module."""
        return max([self.rank, *self.rank_pattern.values()])

    @property
    def uniform(self) -> bool:
        """Whether all it does is one rank and one scale on inner layers."""
        return not (self.rank_pattern or self.alpha_pattern or self.modules_to_save or self.changes_ends)

    @property
    def changes_ends(self) -> bool:
        """Whether its tensors touch embeddings or output layer."""
        ends = re.compile(r"(^|\.)(embed_tokens|lm_head|wte|embed_in|embed_out)\.")
        return any(ends.search(name) for name in stored_tensors(sorted(self.path.glob("adapter_model*.safetensors"))))

    def rank_of(self, module: str) -> int:
        """The rank that the configuration gives a module."""
        return int(_by_pattern(self.rank_pattern, module, self.rank))

    def scale(self, module: str) -> float:
        """What B A is multiplied by in `module`: alpha / r, or alpha / sqrt(r) where rank-stabilised."""
        rank = self.rank_of(module)
        alpha = _by_pattern(self.alpha_pattern, module, self.alpha)
        return float(alpha / rank**0.5 if self.rank_stabilised else alpha / rank)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first pattern that is the module's name or the end of it, as peft looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_adapter(path: Path) -> Adapter:
    """Configuration and base of an adapter directory.

    Raises AdapterError for anything but plain LoRA and for a base that is not on this machine.
    """
    file = path / ADAPTER_CONFIG
    config = _read_json(file)
    check_config(config, file)
    return Adapter(
        path=path,
        base=base_of(path),
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        rank_pattern=dict(config.get("rank_pattern") or {}),
        alpha_pattern=dict(config.get("alpha_pattern") or {}),
        rank_stabilised=bool(config.get("use_rslora")),
        modules_to_save=tuple(config.get("modules_to_save") or ()),
        weight_tying=bool(config.get("ensure_weight_tying")),
    )


def base_of(path: Path) -> Path:
    """Directory of the adapter's base model: as written, beside the adapter, or in the Hugging Face cache.

    Raises AdapterError naming the places looked at: workers do not download.
    """
    named, places, revision = _named_base(path)
    base = _folder(places) or _cached(named, revision)
    if base is not None:
        return base
    stacked = next((place for place in places if is_adapter(place)), None)
    if stacked is not None:
        raise AdapterError(
            f"its base {stacked} is an adapter itself; adapters of adapters cannot be served",
            path=path / ADAPTER_CONFIG,
            fix=f"merge that one first (peft: merge_and_unload, save_pretrained) and name it in {_LISTED_BASES}",
        )
    raise AdapterError(
        f"base model {named!r} is not here; looked at {', '.join(map(str, places))} and in the Hugging Face cache",
        path=path / ADAPTER_CONFIG,
        fix=f"get it with `foreshock prefetch CONFIG.yaml`, or write its directory into {_LISTED_BASES}",
    )


def fetch_base(path: Path) -> tuple[Path, bool]:
    """Like `base_of`, but gets what the Hugging Face cache lacks of it; and whether all of it was here.

    For machines with internet. Raises AdapterError when it is neither here nor to be had.
    """
    named, places, revision = _named_base(path)
    base = _folder(places)
    if base is not None:
        return base, True
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return _snapshot(named, revision, local_files_only=True), True
    except HFValidationError:
        return base_of(path), True  # no hub id: base_of says what is wrong
    except (LocalEntryNotFoundError, OSError):
        pass
    try:
        return _snapshot(named, revision, local_files_only=False), False
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise AdapterError(
            f"base model {named!r} is not here and could not be fetched: {' '.join(str(error).split())}",
            path=path / ADAPTER_CONFIG,
            fix="check the name and this machine's internet, or put the base there as a folder",
        ) from error


def _named_base(path: Path) -> tuple[str, list[Path], str | None]:
    """The base that the adapter names, the folders this may mean, and the revision of it on the hub."""
    config = _read_json(path / ADAPTER_CONFIG)
    named, revision = config.get(_LISTED_BASES), config.get("revision")
    if not isinstance(named, str) or not named:
        raise AdapterError(f"names no base model ({_LISTED_BASES} is {named!r})", path=path / ADAPTER_CONFIG)
    given = Path(named).expanduser()
    places = [given] if given.is_absolute() else [path / given, path.parent / given, Path.cwd() / given]
    return named, places, str(revision) if revision else None


def _folder(places: list[Path]) -> Path | None:
    return next((p.resolve() for p in places if (p / "config.json").is_file() and not is_adapter(p)), None)


def hub_cache_of(path: Path) -> tuple[Path, Path] | None:
    """(cache, the repository's folder in it) of a model that lies in a Hugging Face cache; None for a plain folder.

    A snapshot's files are links to the repository's `blobs`, so a container needs that folder, not the snapshot.
    """
    for snapshots in path.parents:
        if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
            return snapshots.parent.parent, snapshots.parent
    return None


def _cached(name: str, revision: str | None) -> Path | None:
    """Snapshot of a hub model that is already on this machine; of its weights, loading says what is missing."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = _snapshot(name, revision, local_files_only=True)
    except LocalEntryNotFoundError as error:
        incomplete = getattr(error, "snapshot_path", None)
        if incomplete is None:
            return None
        found = Path(incomplete)
    except (HFValidationError, HfHubHTTPError, OSError):
        return None
    return found if (found / "config.json").is_file() else None


def _snapshot(name: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(name, revision=revision, allow_patterns=list(_NEEDED), local_files_only=local_files_only)
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AdapterError(
            f"not valid JSON ({error.msg}, column {error.colno})", path=file, line=error.lineno
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterError(f"cannot be read: {error}", path=file) from error
    except RecursionError:
        raise AdapterError("not valid JSON (nested too deeply)", path=file) from None
    if not isinstance(data, dict):
        raise AdapterError(f"expected a JSON object, found {type(data).__name__}", path=file)
    return data
