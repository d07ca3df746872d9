"""The identity of a checkpoint directory's model, and whether the directory can be loaded at all.

Weight files below 64 MiB are hashed whole, larger ones by header, size and 256 evenly spaced blocks of 64 KiB. Any
optimiser step changes nearly every weight, so samples tell checkpoints apart in milliseconds where whole hashes of 40
GB would take minutes; an edit that touches only bytes between the samples goes unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.model_folder import sharded_format, tokenizer_folder
from foreshock.jobs.model_files.safetensors_headers import same_numbers, stored_tensors
from foreshock.jobs.model_files.weight_files import CheckpointError as CheckpointError
from foreshock.jobs.model_files.weight_files import read_config as read_config
from foreshock.jobs.model_files.weight_files import weight_files

WHOLE_FILE_LIMIT = 64 * 2**20
_BLOCK = 64 * 2**10
_N_BLOCKS = 256
_VOLATILE_CONFIG_KEYS = ("_name_or_path", "transformers_version", "base_model_name_or_path", "peft_version")


def model_fingerprint(path: Path) -> str:
    """Digest of config, adapter config and weights, 64 hex digits; the directory's name and times play no part.

    An adapter's digest covers its base model's. Raises CheckpointError for a directory without config or weights and
    for damaged weight files, AdapterError for an adapter without its base.
    """
    weights = check_weights(path)
    digest = hashlib.sha256()
    if is_adapter(path):  # where the base lies is volatile, what it holds is not
        digest.update(f"base\n{model_fingerprint(base_of(path))}\n".encode())
    for name in ("config.json", "adapter_config.json"):
        if (path / name).is_file():
            config = read_config(path / name)
            for key in _VOLATILE_CONFIG_KEYS:
                config.pop(key, None)
            digest.update(f"{name}\n{json.dumps(config, sort_keys=True)}\n".encode())
    for file in weights:
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        _hash_content(file, digest)
    return digest.hexdigest()


def check_checkpoint(path: Path, tokenizer: Path | None = None) -> tuple[Path, ...]:
    """The weight files of a usable checkpoint, sorted by name. Raises CheckpointError naming what is missing.

    The tokenizer may lie in the directory, beside the steps, with an adapter's base, or in `tokenizer`.
    """
    return _check(path, require_tokenizer=tokenizer is None)


def check_weights(path: Path) -> tuple[Path, ...]:
    """Like `check_checkpoint`, whatever tokenizer there is."""
    return _check(path, require_tokenizer=False)


def find_tokenizer(path: Path, up_to: Path | None = None) -> Path | None:
    """The directory that a model's tokenizer lies in: see `tokenizer_folder`; an adapter's may lie with its base."""
    found = tokenizer_folder(path, up_to)
    if found is None and is_adapter(path):
        try:
            found = tokenizer_folder(base_of(path), base_of(path))
        except InputError:
            return None
    return found


def _check(path: Path, *, require_tokenizer: bool) -> tuple[Path, ...]:
    if not path.is_dir():
        found = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(
            f"{path}: the checkpoint {found}; give a directory with config.json and *.safetensors{_beside(path)}"
        )
    missing = []
    if not is_adapter(path) and not (path / "config.json").is_file():
        missing.append("config.json")
    if require_tokenizer and find_tokenizer(path) is None:
        if is_adapter(path):
            base_of(path)  # its tokenizer may be its base's: where that is not here, its error is the reason
        missing.append("a tokenizer (tokenizer.json, or tokenizer.model, with tokenizer_config.json)")
    weights = weight_files(path)
    if not weights:
        missing.append("weights (*.safetensors, or pytorch_model*.bin)")
    if missing:
        sharded = sharded_format(path)
        if sharded is not None and not weights:
            raise sharded.error()
        held = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise CheckpointError(
            f"{path}: not a usable checkpoint; missing {' and '.join(missing)}; it holds {held}. Save it with "
            "model.save_pretrained and tokenizer.save_pretrained"
        )
    held_by: dict[str, Path] = {}
    for file in weights:
        if file.suffix == ".bin":
            _check_torch_file(file)
        for name in _check_safetensors(file) if file.suffix == ".safetensors" else ():
            if held_by.setdefault(name, file) != file:
                _require_same(name, held_by[name], file)
    return weights


def _require_same(name: str, one: Path, other: Path) -> None:
    """Raise CheckpointError for a tensor that two files hold with other numbers: loaders differ in which they take."""
    if not same_numbers(stored_tensors([one])[name], stored_tensors([other])[name]):
        raise CheckpointError(
            f"tensor {name!r} is in {one.name} and in {other.name} with other numbers, so which is the model's is not "
            "known",
            path=one.parent,
            fix="save the checkpoint anew into an empty directory",
        )


def _beside(path: Path) -> str:
    """The checkpoints where one was looked for, as a last line of its error."""
    try:
        found = sorted(entry.parent.name for entry in path.parent.glob("*/config.json"))
    except OSError:
        found = []
    if not found:
        return ""
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return f"\n  -> {path.parent} holds {', '.join(found[:8])}{more}"


def stated_dtype(config: Mapping[str, Any]) -> str:
    """The data type of a parsed config.json's model: where it names none, transformers' default, float32, or bfloat16
    around quantised weights."""
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, Mapping) else config
    unnamed = "bfloat16" if inner.get("quantization_config") else "float32"
    return str(inner.get("dtype") or inner.get("torch_dtype") or unnamed).removeprefix("torch.")


def stated_vocab_size(path: Path) -> int | None:
    """Rows of the output layer as a checkpoint's config.json gives them; None where it, or the file, does not say."""
    file = path / "config.json"
    config = read_config(file) if file.is_file() else {}
    text = config.get("text_config")
    size = (text.get("vocab_size") if isinstance(text, Mapping) else None) or config.get("vocab_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def stated_context_length(path: Path) -> int | None:
    """Positions of a checkpoint's model as its config.json, or its base's, gives them; None where none is given."""
    folder = base_of(path) if is_adapter(path) else path
    file = folder / "config.json"
    config = read_config(file) if file.is_file() else {}
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, Mapping) else config
    given = next((inner[key] for key in ("max_position_embeddings", "n_positions") if inner.get(key)), None)
    return given if isinstance(given, int) and given > 0 else None


def _check_safetensors(file: Path) -> tuple[str, ...]:
    """Names of the file's tensors. Raises CheckpointError if it is truncated or its header cannot be read."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        n_header = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if 8 + n_header > size:
            raise CheckpointError(f"{file}: truncated: {size} bytes do not hold its header; copy the checkpoint again")
        try:
            header = json.loads(stream.read(n_header))
            tensors = {name: info for name, info in header.items() if name != "__metadata__"}
            end = max((info["data_offsets"][1] for info in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file}: not a safetensors file: its header cannot be read ({error})") from error
    if 8 + n_header + end != size:
        raise CheckpointError(
            f"{file}: {size} bytes where its header promises {8 + n_header + end}; copy the checkpoint again"
        )
    return tuple(tensors)


def _check_torch_file(file: Path) -> None:
    """Raise CheckpointError for a .bin that torch.save did not write, by its first bytes: a zip archive or a pickle."""
    with file.open("rb") as stream:
        head = stream.read(4)
    if not head.startswith((b"PK", b"\x80")):
        raise CheckpointError("not a file of torch.save; copy the checkpoint again", path=file)


def _hash_content(file: Path, digest: hashlib._Hash) -> None:
    """Whole content of a small file; header and evenly spaced blocks of a large one."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size < WHOLE_FILE_LIMIT:
            while chunk := stream.read(2**20):
                digest.update(chunk)
            return
        if file.suffix == ".safetensors":
            head = stream.read(8)
            digest.update(head + stream.read(struct.unpack("<Q", head)[0]))
        last = size - _BLOCK
        for i in range(_N_BLOCKS):
            digest.update(os.pread(stream.fileno(), _BLOCK, last * i // (_N_BLOCKS - 1)))
