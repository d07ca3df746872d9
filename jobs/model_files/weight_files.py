"""The weight files of a checkpoint's directory: those that transformers would load, or the reason why there are none.

transformers reads four names in a fixed order and looks at nothing else; vLLM reads every safetensors file. A directory
in which that leaves a choice is refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from foreshock.errors import InputError

ADAPTER_CONFIG = "adapter_config.json"
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_NUMBERED = re.compile(r"-\d{5}-of-(?P<total>\d{5})\.(?:safetensors|bin)$")
_EXPLICIT = "transformers_weights"
_LFS = b"version https://git-lfs.github.com/"
_WEIGHTS = (".safetensors", ".bin")
_READ_HERE = (*_WEIGHTS, ".json", ".jinja", ".model")


class CheckpointError(InputError):
    """A directory that is not a usable checkpoint; the message says what is missing and what is valid."""


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from disk. Raises CheckpointError naming file, line and column."""
    require_content(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except RecursionError:
        raise CheckpointError(f"{path}: not valid JSON (nested too deeply)") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(data).__name__}")
    return data


def is_adapter(path: Path) -> bool:
    """Whether the directory is an adapter's. Some trainers copy the base's config.json beside it."""
    if not (path / ADAPTER_CONFIG).is_file():
        return False
    if not (path / "config.json").is_file():
        return True
    return not _full_weights(path) and any((path / name).is_file() for name in _ADAPTER_WEIGHTS)


def require_content(file: Path) -> None:
    """Raise CheckpointError for a file that stands for its content: a pointer of Git LFS, a link to nothing."""
    if file.is_symlink() and not file.exists():
        raise CheckpointError(
            f"is a link to {file.readlink()}, which is not there",
            path=file,
            fix="copy the checkpoint with its links followed (cp -L, rsync -L)",
        )
    if file.is_file() and file.stat().st_size < 1024:
        with file.open("rb") as stream:
            pointer = stream.read(len(_LFS)) == _LFS
        if pointer:
            raise CheckpointError("is a pointer of Git LFS, not the file itself", path=file, fix="git lfs pull")


def weight_files(path: Path) -> tuple[Path, ...]:
    """The files that make the model or the adapter, sorted by name; empty if there are none. Raises CheckpointError for
    a set that is not whole, and where more than one could be meant."""
    for file in path.iterdir() if path.is_dir() else ():
        if file.suffix in _READ_HERE and (file.is_symlink() or file.suffix in _WEIGHTS):
            require_content(file)
    if is_adapter(path):
        return _adapter_files(path)
    if (path / ADAPTER_CONFIG).is_file() and _full_weights(path):
        raise CheckpointError(
            f"{ADAPTER_CONFIG} lies beside the weights of a full model, so which of the two is meant is not known",
            path=path,
            fix=f"move {ADAPTER_CONFIG} and adapter_model.* away to evaluate the full model, or the full weights to "
            "evaluate the adapter",
        )
    _require_no_other_name(path)
    for single in _SINGLE:
        index = path / f"{single}.index.json"
        if (path / single).is_file() and index.is_file():
            raise CheckpointError(
                f"{single} lies beside {index.name}: two sets of weights, of which transformers reads the first and "
                "vLLM the second",
                path=path,
                fix=f"remove {single}, or the index and its shards, whichever is left over",
            )
        if (path / single).is_file():
            return (path / single,)
        if index.is_file():
            return _shards(index)
    _require_known_names(path)
    return ()


def further_safetensors(path: Path) -> tuple[str, ...]:
    """Safetensors files in a full model's directory that are no part of it. With an index nobody reads them; without
    one vLLM does."""
    if (path / "model.safetensors.index.json").is_file():
        return ()
    own = {file.name for file in weight_files(path)}
    return tuple(sorted(file.name for file in path.glob("*.safetensors") if file.name not in own))


def _full_weights(path: Path) -> list[str]:
    names = [name for single in _SINGLE for name in (single, f"{single}.index.json") if (path / name).is_file()]
    return names or sorted(file.name for file in path.glob("model-*-of-*.safetensors"))


def _adapter_files(path: Path) -> tuple[Path, ...]:
    whole = [path / name for name in _ADAPTER_WEIGHTS if (path / name).is_file()][:1]
    if whole:
        return tuple(whole)
    found = sorted(path.glob("*.safetensors"))
    if found:
        raise CheckpointError(
            f"an adapter whose weights are {_some(found)}; peft's are in {_ADAPTER_WEIGHTS[0]}",
            path=path,
            fix=f"save it with peft's save_pretrained, or rename the file if it is {_ADAPTER_WEIGHTS[0]} whole",
        )
    return ()


def _shards(index: Path) -> tuple[Path, ...]:
    """All files that an index lists, each of them there."""
    mapping = read_config(index).get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(name, str) and name for name in mapping.values()):
        raise CheckpointError(
            f"{index}: weight_map is no map of tensor names to file names; copy the checkpoint again, or save it anew"
        )
    names = sorted(set(mapping.values()))
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent or not names:
        raise CheckpointError(
            f"{index.parent}: {index.name} lists {len(names)} weight files, {len(absent)} of them missing "
            f"({', '.join(absent[:4]) or 'the index is empty'}); copy the checkpoint again"
        )
    return tuple(index.parent / name for name in names)


def _require_known_names(path: Path) -> None:
    """Weights under names that transformers does not look for would be found missing by the job, not by the plan."""
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not files:
        return
    kind = files[0].suffix
    index = f"{'model' if kind == '.safetensors' else 'pytorch_model'}{kind}.index.json"
    numbered = [match for file in files if (match := _NUMBERED.search(file.name))]
    if numbered and len(numbered) < int(numbered[0]["total"]):
        raise CheckpointError(
            f"{path}: {len(numbered)} of {int(numbered[0]['total'])} weight files and no index; copy the checkpoint "
            "again, or wait until it is written"
        )
    if numbered:
        raise CheckpointError(
            f"all {len(numbered)} shards are here, but not {index}, which says what is in them",
            path=path,
            fix=f"copy {index} of the checkpoint too, or wait until it is written",
        )
    raise CheckpointError(
        f"its weights are {_some(files)}, which no loader takes for a model's; valid: {', '.join(_SINGLE)}, or shards "
        "with their index",
        path=path,
        fix=f"rename the file to {'model' if kind == '.safetensors' else 'pytorch_model'}{kind} if it is the whole "
        "model's state dict",
    )


def _require_no_other_name(path: Path) -> None:
    file = path / "config.json"
    named = read_config(file).get(_EXPLICIT) if file.is_file() else None
    if named:
        raise CheckpointError(
            f"config.json names its weights itself ({_EXPLICIT}: {named!r}), which only transformers heeds",
            path=path,
            fix=f"rename that file to {_SINGLE[0]} and remove {_EXPLICIT}",
        )


def _some(files: list[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(file.name for file in files[:3]) + more
