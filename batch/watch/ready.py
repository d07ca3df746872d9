"""Whether a checkpoint directory is completely written, and whether it is still the one that was evaluated.

No marker file is asked for, because no training framework agrees on one. A checkpoint is ready when its files say
that they are whole (every shard of the index, headers that match sizes, JSON that parses) and nothing of it has
changed for a while; a writer that pauses longer than that between whole files is indistinguishable from one that has
ended, and is caught later as a change.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.model_files.adapters import AdapterError
from foreshock.jobs.model_files.fingerprint import check_checkpoint, read_config
from foreshock.jobs.model_files.model_folder import ShardedCheckpointError
from foreshock.jobs.records.checkpoint_names import step_of_directory
from foreshock.jobs.records.spec import Checkpoint

_MODEL_PATTERNS = ("*.json", "*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.model", "*.jinja", "*.txt")
_NEWEST = "latest_checkpointed_iteration.txt"
_NOT_THE_MODEL = frozenset({"trainer_state.json"})
"""Written and rewritten by trainers; what is loaded does not depend on it."""


class _NotYetWholeError(InputError):
    """A directory that its trainer has not yet named as whole."""


class Readiness(StrEnum):
    """What a look at a checkpoint directory found."""

    READY = "ready"
    SETTLING = "settling"
    INCOMPLETE = "incomplete"
    SHARDED = "sharded"
    """Written, and in a training format that must be merged before anything can load it."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look: `reason` says what an incomplete checkpoint lacks; `signature` is that of a ready one; `rested`:
    nothing changes, and its trainer does not say that it is still being written."""

    state: Readiness
    signature: str
    reason: str = ""
    rested: bool = True


def model_files(path: Path) -> list[Path]:
    """Files that decide what is loaded: weights, configurations, tokenizer; sorted by name."""
    found = {file for pattern in _MODEL_PATTERNS for file in path.glob(pattern) if file.name not in _NOT_THE_MODEL}
    return sorted(found)


def signature(path: Path) -> str:
    """Digest of names, sizes and modification times of the model's files; costs no reading of weights."""
    return _signature(model_files(path))


def _signature(files: Sequence[Path]) -> str:
    facts = []
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError:
            continue
        facts.append((file.name, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def lacking(checkpoint: Checkpoint) -> InputError | None:
    """What keeps the directory from being a whole checkpoint; None if it is one."""
    path = checkpoint.path
    try:
        _require_announced(path)
        weights = check_checkpoint(path, checkpoint.tokenizer)
        for file in model_files(path):
            if file.suffix == ".json":
                read_config(file)
    except InputError as error:
        return error
    except OSError as error:  # files vanish and appear while somebody writes
        return InputError(f"cannot be read: {error}", path=path)
    for file in weights:
        if file.suffix == ".bin" and not zipfile.is_zipfile(file):
            return InputError("not a whole PyTorch file: its archive has no end", path=file)
    return None


def _require_announced(path: Path) -> None:
    """verl and Megatron say beside their steps which one was written last; what lies beyond it is being written."""
    for folder in list(path.parents)[:3]:
        said = folder / _NEWEST
        if not said.is_file():
            continue
        text = said.read_text(encoding="utf-8", errors="replace").strip()
        own = next((p.name for p in (path, *path.parents) if p.parent == folder), "")
        try:
            step = step_of_directory(own)
        except ValueError:
            return
        if step is not None and text.isdecimal() and step > int(text):
            raise _NotYetWholeError(f"{_NEWEST} names {text} as the newest whole step", path=path)
        return


class Settling:
    """Remembers when each directory last changed, as this process saw it; `seconds` of rest make it settled."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[Path, tuple[str | None, float]] = {}

    def look(self, checkpoint: Checkpoint) -> Look:
        """Look at one directory. One whose files are old enough is settled at the first look."""
        path = checkpoint.path
        reason = lacking(checkpoint)
        sharded = isinstance(reason, ShardedCheckpointError)  # its trainer may yet write a model beside the shards
        files = sorted(file for file in path.rglob("*") if file.is_file()) if sharded else model_files(path)
        now = _signature(files)
        seen, since = self._seen.get(path, (None, 0.0))
        if seen != now:
            # Copies may carry old times, so age counts only for what nobody has been seen writing.
            since = time.monotonic() - (max(0.0, self._age(files)) if seen is None else 0.0)
            self._seen[path] = (now, since)
        rested = time.monotonic() - since >= self._seconds
        if sharded:
            return Look(Readiness.SHARDED if rested else Readiness.SETTLING, now, str(reason))
        if reason is not None and not isinstance(reason, AdapterError):  # an adapter without its base is whole
            return Look(Readiness.INCOMPLETE, now, str(reason), rested and not isinstance(reason, _NotYetWholeError))
        return Look(Readiness.READY if rested else Readiness.SETTLING, now)

    @staticmethod
    def _age(files: Sequence[Path]) -> float:
        """Seconds since the newest of the files was written, by this machine's clock; 0 if there is none."""
        times = []
        for file in files:
            try:
                times.append(file.stat().st_mtime)
            except FileNotFoundError:
                return 0.0
        return time.time() - max(times) if times else 0.0
