"""Bring a checkpoint's weights into memory: build the model once, then swap weights in place.

The one hard decision: a swap happens only when both configurations agree on everything but names and versions,
and the files hold exactly the model's tensors by name and shape. Anything else (quantised weights, converted
layouts, adapters) rebuilds the model, and a failed swap leaves no model rather than a half-changed one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as hf_logging

from foreshock.jobs.fingerprint import CheckpointError, check_checkpoint, is_adapter

_CONFIG_KEYS_WITHOUT_EFFECT = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def read_model_config(path: Path) -> Any:
    """The model configuration of a complete checkpoint. Raises CheckpointError for anything else."""
    check_checkpoint(path)
    if is_adapter(path):
        raise CheckpointError(
            f"{path}: holds an adapter (adapter_config.json), not a full model; merge it into its base "
            "(peft: merge_and_unload, then save_pretrained) and give that directory"
        )
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path / 'config.json'}: transformers cannot read it: {error}") from error


def same_architecture(one: Any, other: Any) -> bool:
    """Whether two configurations describe the same tensors and the same computation."""

    def shape(config: Any) -> dict[str, Any]:
        return {k: v for k, v in config.to_dict().items() if k not in _CONFIG_KEYS_WITHOUT_EFFECT}

    return bool(shape(one) == shape(other))


def build_model(path: Path, config: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A model with the checkpoint's weights, in evaluation mode.

    Raises CheckpointError when weights are missing: transformers would fill them with random numbers.
    """
    with warnings.catch_warnings(), _no_progress_bar():
        warnings.simplefilter("ignore")  # loader notices are about training and caches
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path, config=config, dtype=dtype, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path}: transformers cannot load the model: {error}") from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key[0]) for key in info["mismatched_keys"])
    if missing or mismatched:
        raise CheckpointError(
            f"{path}: {len(missing)} tensors missing and {len(mismatched)} of the wrong shape, first "
            f"{(missing + mismatched)[0]!r}; the weights do not belong to its config.json"
        )
    model.to(device)
    model.requires_grad_(False)
    return model.eval()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Loading takes milliseconds to minutes; the worker reports it, and logs need no bars."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def swap_weights(model: Any, path: Path) -> bool:
    """Copy the checkpoint's tensors into `model`. Returns False, with nothing changed, if they do not fit it."""
    files = check_checkpoint(path)
    if any(file.suffix != ".safetensors" for file in files) or getattr(model, "hf_quantizer", None) is not None:
        return False
    targets: dict[str, torch.Tensor] = model.state_dict()
    by_storage: dict[tuple[int, int], set[str]] = {}
    for name, tensor in targets.items():
        by_storage.setdefault((tensor.data_ptr(), tensor.numel()), set()).add(name)
    found: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                if name not in targets or list(targets[name].shape) != tensors.get_slice(name).get_shape():
                    return False
                found.add(name)
    if not all(found & names for names in by_storage.values()):  # tied tensors are saved once
        return False
    with torch.no_grad():
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    targets[name].copy_(tensors.get_tensor(name))
    return True
