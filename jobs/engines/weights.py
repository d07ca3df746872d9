"""Bring a checkpoint's weights into memory: build the model once, then swap weights in place.

A swap gives what a fresh load gives, or does not happen. It needs configurations that agree on everything but names and
versions, files that hold exactly the model's tensors by name, shape and layout, and ties that the files have too.
Anything else (quantised weights, converted layouts, tied tensors stored twice and different) rebuilds the model, and a
failed swap leaves no model rather than a half-changed one. An adapter is its base's tensors with the adapter folded in,
swapped like any others, so several adapters share one built model.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from foreshock.counted import counted
from foreshock.errors import ForeshockError
from foreshock.jobs.engines.exhausted import is_exhaustion
from foreshock.jobs.engines.known_quantisation import require_known_quantisation
from foreshock.jobs.engines.merging import changed_tensors, merged_tensors
from foreshock.jobs.engines.model_classes import AutoModelForCausalLM
from foreshock.jobs.model_files.adapters import AdapterError, base_of, is_adapter, read_adapter
from foreshock.jobs.model_files.fingerprint import CheckpointError, check_weights, read_config
from foreshock.jobs.model_files.quantisation import FIX, quantisation_problem
from foreshock.jobs.model_files.safetensors_headers import StoredTensor, stored_tensors
from foreshock.jobs.model_files.stored_layers import is_of_a_layer
from foreshock.jobs.model_files.transformers_config import other_task, transformers_config
from foreshock.jobs.quiet_bars import no_library_bars

_SCALE = re.compile(r"(scale|scale_inv|scales|qzeros|absmax|quant_state\S*|g_idx)$")
_NOT_TRAINED = re.compile(r"(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids|causal_mask)$")
"""Buffers that older versions stored with the weights."""
_CONFIG_KEYS_WITHOUT_EFFECT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def read_model_config(path: Path) -> Any:
    """The model configuration of a complete checkpoint, of the base for an adapter. Raises CheckpointError."""
    files = check_weights(path)
    folder = base_of(path) if is_adapter(path) else path
    other = other_task(read_config(folder / "config.json"))
    if other is not None:
        raise CheckpointError(
            f"architectures names {other}, which predicts no tokens: it is not a language model",
            path=folder / "config.json",
        )
    _require_quantisation(folder, files if folder == path else check_weights(folder))
    try:
        return transformers_config(folder)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: transformers cannot read it: {error}") from error


def _require_quantisation(folder: Path, files: Iterable[Path]) -> None:
    """Raise CheckpointError where config.json's quantisation and the stored tensors make no model."""
    stored = stored_tensors(files)
    for file in files:
        if file.suffix != ".safetensors":
            stored |= _pickled(file)
    problem = quantisation_problem(read_config(folder / "config.json"), stored, folder)
    if problem is not None:
        raise CheckpointError(problem, path=folder, fix=FIX)
    require_known_quantisation(folder)


def _pickled(file: Path) -> dict[str, StoredTensor]:
    """Names and types of a .bin file's tensors, without their numbers; none of one that only loading can judge."""
    try:
        held = torch.load(file, map_location="meta", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
        return {}
    names = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int8: "I8", torch.uint8: "U8"}
    return {
        name: StoredTensor(file, names.get(tensor.dtype, "F32"), tuple(tensor.shape), 0, 0)
        for name, tensor in (held.items() if isinstance(held, dict) else ())
        if isinstance(tensor, torch.Tensor)
    }


def same_architecture(one: Any, other: Any) -> bool:
    """Whether two configurations describe the same tensors and the same computation."""

    def shape(config: Any) -> dict[str, Any]:
        return {k: v for k, v in config.to_dict().items() if k not in _CONFIG_KEYS_WITHOUT_EFFECT}

    return bool(shape(one) == shape(other))


def build_model(path: Path, config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A model with the checkpoint's weights, in evaluation mode.

    Raises CheckpointError when weights are missing: transformers would fill them with random numbers.
    """
    if is_adapter(path):
        base = base_of(path)
        model = build_model(base, config, dtype, device)
        if not (swap_weights(model, path) if matches_files(model, base) else _fold_in(model, path)):
            raise AdapterError(
                "its base is quantised, or lays out what the adapter changes unlike the model does, so nothing can be "
                "folded in",
                path=path,
                fix="use engine vllm, or give the base in bfloat16 safetensors",
            )
        return model
    with warnings.catch_warnings(), no_library_bars():
        warnings.simplefilter("ignore")  # loader notices are about training and caches
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            if is_exhaustion(error):
                raise ForeshockError(
                    f"{path}: this machine's memory does not hold the model: {' '.join(str(error).split())[:300]}\n"
                    "  -> see the memory table of `foreshock plan`; use more memory, or a smaller engine.dtype"
                ) from error
            raise CheckpointError(f"{path}: transformers cannot load the model: {error}") from error
        except ImportError as error:
            raise CheckpointError(
                f"{path}: loading this model needs a package that is not here: {' '.join(str(error).split())}"
            ) from error
    model, info = loaded
    _require_every_tensor(path, model, info)
    model.to(device)
    model.requires_grad_(False)
    return model.eval()


def _require_every_tensor(path: Path, model: Any, info: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless model and stored tensors match; `info` is what transformers says of the loading."""
    unexpected = sorted(info["unexpected_keys"])
    missing = sorted(info["missing_keys"])
    prefix = _common_prefix(missing, unexpected)
    if prefix is not None:
        raise CheckpointError(
            f"every tensor is stored as {prefix + missing[0]!r} is, where the model has {missing[0]!r}: a wrapper of "
            "the trainer's was saved with it (torch.compile writes _orig_mod., data parallel training module.)",
            path=path,
            fix=f"save the model inside the wrapper, or take {prefix!r} off the names",
        )
    mismatched = sorted(
        f"{name!r} ({_shape(stored)} where config.json makes {_shape(made)})"
        for name, stored, made in info["mismatched_keys"]
    )
    if missing or mismatched:
        raise CheckpointError(
            f"{path}: {counted(len(missing), 'tensor')} missing and {len(mismatched)} of the wrong shape, first "
            f"{[*map(repr, missing), *mismatched][0]}; the weights do not belong to its config.json"
        )
    scales = [key for key in unexpected if _SCALE.search(key)]
    if scales:
        raise CheckpointError(
            f"{path}: no place in the model for {counted(len(scales), 'scale')} of quantised weights, first "
            f"{scales[0]!r}; without that its weights are not the trained ones. Give quantization_config in "
            "config.json, or the model in bfloat16"
        )
    modules = {name for name, _ in model.named_modules()} - {""}
    further = [key for key in unexpected if _belongs(key, modules) and not _NOT_TRAINED.search(key)]
    if further:
        raise CheckpointError(
            f"no place in the model that config.json describes for {counted(len(further), 'tensor')} of its layers or "
            f"ends, first {further[0]!r}; without that it is not the trained model",
            path=path,
            fix="save config.json and weights of one model together (a bias, a norm or an adapter may be switched off)",
        )


def _belongs(key: str, modules: Set[str]) -> bool:
    """Whether a stored tensor that has no place is part of what the model computes: of a layer, or of one of its
    `modules`. Heads of other tasks (values, scores) are neither."""
    return is_of_a_layer(key) or key.rpartition(".")[0] in modules


def _shape(size: Iterable[int]) -> str:
    return "x".join(map(str, size)) or "a scalar"


def _common_prefix(missing: list[str], unexpected: list[str]) -> str | None:
    """What all stored names begin with beyond the model's own; None if that is not how they differ."""
    stored = set(unexpected)
    first = next((name for name in unexpected if missing and name.endswith(f".{missing[0]}")), None)
    if first is None:
        return None
    prefix = first.removesuffix(missing[0])
    return prefix if all(prefix + name in stored for name in missing) else None


def swap_weights(model: Any, path: Path) -> bool:
    """Copy the checkpoint's tensors into `model`. Returns False, with nothing changed, if they do not fit it."""
    adapter = read_adapter(path) if is_adapter(path) else None
    files = check_weights(path if adapter is None else adapter.base)
    if any(file.suffix != ".safetensors" for file in files) or getattr(model, "hf_quantizer", None) is not None:
        return False
    targets: dict[str, torch.Tensor] = model.state_dict()
    if not _fit(files, targets):
        return False
    _copy(_tensors(files) if adapter is None else merged_tensors(adapter, model.dtype), targets)
    return True


def _fold_in(model: Any, path: Path) -> bool:
    """Fold an adapter into a model just built from its base, which holds some tensors otherwise than the files (experts
    joined into one): enough that those which the adapter changes are as they are stored. Returns False if not."""
    adapter = read_adapter(path)
    names = changed_tensors(adapter)
    if not matches_files(model, adapter.base, names):
        return False
    merged = merged_tensors(adapter, model.dtype)
    _copy(((name, tensor) for name, tensor in merged if name in names), model.state_dict())
    return True


def is_swappable(model: Any, path: Path) -> bool:
    """Whether other weights of its architecture can be copied into a model just built from `path`: it holds tensors as
    its files store them. Those that an adapter changed were looked at before it was folded in."""
    if not is_adapter(path):
        return matches_files(model, path)
    adapter = read_adapter(path)
    return matches_files(
        model, adapter.base, stored_tensors(check_weights(adapter.base)).keys() - changed_tensors(adapter)
    )


def matches_files(model: Any, path: Path, names: Set[str] | None = None) -> bool:
    """Whether a model just built from `path` holds the files' tensors (of these names) as they are stored, told by some
    rows of each.

    A loader that permutes, joins or scales tensors keeps their names at times; such a model is never swapped.
    """
    files = check_weights(path)
    if any(file.suffix != ".safetensors" for file in files) or getattr(model, "hf_quantizer", None) is not None:
        return False
    held: dict[str, torch.Tensor] = model.state_dict()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.offset_keys():
                if names is not None and name not in names:
                    continue
                stored = tensors.get_slice(name)
                shape = stored.get_shape()
                if name not in held or list(held[name].shape) != shape:
                    return False
                if not all(_same_rows(stored, held[name], i) for i in _sampled(shape)):
                    return False
    return True


def _sampled(shape: list[int]) -> Iterator[slice]:
    """First, middle and last row; all of a short vector."""
    if len(shape) < 2:
        yield slice(None)
    else:
        yield from (slice(i, i + 1) for i in sorted({0, shape[0] // 2, shape[0] - 1}) if shape[0])


def _same_rows(stored: Any, held: torch.Tensor, rows: slice) -> bool:
    if held.dim() == 0:
        return True
    mine = held[rows].cpu()
    return bool(torch.equal(stored[rows].to(mine.dtype), mine))


def _fit(files: Iterable[Path], targets: dict[str, torch.Tensor]) -> bool:
    """Whether the files hold exactly the model's tensors by name and shape. Those that the model ties may be stored
    once, or several times alike."""
    by_storage: dict[tuple[int, int], set[str]] = {}
    for name, tensor in targets.items():
        by_storage.setdefault((tensor.data_ptr(), tensor.numel()), set()).add(name)
    found: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.offset_keys():
                if name not in targets or list(targets[name].shape) != tensors.get_slice(name).get_shape():
                    return False
                found[name] = file
    groups = [found.keys() & names for names in by_storage.values()]
    return all(groups) and all(_all_equal({n: found[n] for n in group}, targets) for group in groups if len(group) > 1)


def _all_equal(stored: Mapping[str, Path], targets: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors that the model ties hold the same numbers in its type: a fresh load ties them only then."""
    first: torch.Tensor | None = None
    for name, file in stored.items():
        with safe_open(file, framework="pt") as tensors:
            tensor = tensors.get_tensor(name).to(targets[name].dtype)
        if first is not None and not torch.equal(first, tensor):
            return False
        first = tensor
    return True


def _tensors(files: Iterable[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.offset_keys():
                yield name, tensors.get_tensor(name)


def _copy(tensors: Iterable[tuple[str, torch.Tensor]], targets: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in tensors:
            targets[name].copy_(tensor)
