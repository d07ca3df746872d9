"""What an adapter's configuration may say: every key is known to be harmless, read, or refused with the reason.

peft grows by keys that are off unless set, so an unknown key is refused when it is set and passed when it is null,
false or empty. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foreshock.errors import InputError

MERGE = "merge it into its base where it was trained (peft: merge_and_unload, save_pretrained) and give that"


class AdapterError(InputError):
    """An adapter that cannot be used; the message says why and what would be valid."""


HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",  # how it was initialised; init_lora_weights says whether that changed the base
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",  # which modules are adapted is read off the tensors
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",  # off at inference
        "lora_ga_config",
        "megatron_core",  # the name of a module; megatron_config says whether it is used
        "peft_version",
        "qalora_group_size",  # use_qalora says whether it is used
        "runtime_config",
        "target_modules",
    }
)
"""Keys whose value changes nothing about the trained model beyond what the tensors say."""

READ = frozenset(
    {
        "alpha_pattern",
        "bias",
        "ensure_weight_tying",
        "fan_in_fan_out",
        "init_lora_weights",
        "lora_alpha",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "revision",
        "task_type",
        "use_rslora",
    }
)
"""Keys that are read and applied, or checked."""

REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": "activated LoRA applies only after its invocation tokens",
    "arrow_config": "Arrow routes each token among several adapters",
    "kasa_config": "KaSA changes the base's weights by a truncated decomposition",
    "layer_replication": "layer replication makes other layers than the base's",
    "lora_bias": "trained biases are not served",
    "megatron_config": "its layers are Megatron's parallel ones",
    "monteclora_config": "MonteCLoRA samples its weights",
    "target_parameters": "it adapts parameters (experts), not modules",
    "trainable_token_indices": "it replaces single rows of the embeddings",
    "use_bdlora": "block-diagonal factors are stored in another layout",
    "use_dora": "DoRA rescales the sum of base and adapter",
    "use_qalora": "QALoRA pools its inputs",
    "velora_config": "VeLoRA compresses activations",
}
"""Keys that make of the tensors something else than W + scale * B A, and what."""

_KEEP_THE_BASE = frozenset({"true", "false", "gaussian", "eva", "orthogonal", "mica"})
_CHANGE_THE_BASE = re.compile(r"^(pissa|pissa_niter_\d+|corda|olora|loftq|lora_ga)$")
_TASKS = (None, "CAUSAL_LM")


def check_config(config: Mapping[str, Any], file: Path) -> None:
    """Raise AdapterError for anything in an adapter_config.json that the plain arithmetic does not cover."""
    for check in (_method, _refused_keys, _initialisation, _unknown_keys, _switches, _numbers, _modules):
        check(config, file)


def _method(config: Mapping[str, Any], file: Path) -> None:
    if "peft_type" not in config:
        raise AdapterError("not a configuration of peft's: it has no peft_type; valid: LORA", path=file, fix=MERGE)
    method = str(config["peft_type"]).rpartition(".")[2].upper()
    if method != "LORA":
        raise AdapterError(f"peft_type {method!r} cannot be served; valid: LORA", path=file, fix=MERGE)
    task = config.get("task_type")
    if (None if task is None else str(task).rpartition(".")[2]) not in _TASKS:
        raise AdapterError(f"task_type {task!r}: not an adapter of a causal language model", path=file)
    bias = config.get("bias", "none")
    if str(bias) != "none":
        raise AdapterError(f"bias {bias!r}: trained biases cannot be served; valid: none", path=file, fix=MERGE)


def _refused_keys(config: Mapping[str, Any], file: Path) -> None:
    for key, why in REFUSED.items():
        if is_set(config.get(key)):
            raise AdapterError(f"{key} is set: {why}; valid: plain LoRA", path=file, fix=MERGE)


def _initialisation(config: Mapping[str, Any], file: Path) -> None:
    given = config.get("init_lora_weights", True)
    name = str(given).lower()
    if _CHANGE_THE_BASE.match(name):
        raise AdapterError(
            f"init_lora_weights is {given!r}: training began by changing the base's weights, so this adapter does not "
            "belong to the base as it is stored",
            path=file,
            fix="convert it where it was trained (peft: save_pretrained(..., path_initial_model_for_weight_conversion="
            "...)), or merge it there (merge_and_unload) and give that",
        )
    if name not in _KEEP_THE_BASE:
        raise AdapterError(
            f"init_lora_weights is {given!r}, which is not known to leave the base as it is; valid: "
            f"{', '.join(sorted(_KEEP_THE_BASE))}",
            path=file,
            fix=MERGE,
        )


def _unknown_keys(config: Mapping[str, Any], file: Path) -> None:
    known = HARMLESS | READ | REFUSED.keys()
    unknown = sorted(key for key, value in config.items() if key not in known and is_set(value))
    if unknown:
        raise AdapterError(
            f"unknown key{'s' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown))}: what the adapter then "
            "computes is not known here",
            path=file,
            fix=MERGE,
        )


def _switches(config: Mapping[str, Any], file: Path) -> None:
    for key in ("use_rslora", "ensure_weight_tying", "fan_in_fan_out"):
        if not isinstance(config.get(key), bool | None):
            raise AdapterError(f"{key} is {config[key]!r}; valid: true, false", path=file)


def _numbers(config: Mapping[str, Any], file: Path) -> None:
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_rank(rank) or not _is_number(alpha):
        raise AdapterError(
            f"r {rank!r} and lora_alpha {alpha!r}; valid: a whole number above 0, a finite number (both are needed)",
            path=file,
        )
    for key, valid in (("rank_pattern", _is_rank), ("alpha_pattern", _is_number)):
        _check_pattern(config.get(key), key, valid, file)


def _check_pattern(patterns: Any, key: str, valid: Callable[[Any], bool], file: Path) -> None:
    if not is_set(patterns):
        return
    if not isinstance(patterns, Mapping) or not all(valid(value) for value in patterns.values()):
        raise AdapterError(f"{key} is {patterns!r}; valid: module names to finite numbers, ranks above 0", path=file)
    for pattern in patterns:
        _require_pattern(key, pattern, file)


def _require_pattern(key: str, pattern: str, file: Path) -> None:
    try:
        re.compile(f"({pattern})")
    except re.error as error:
        raise AdapterError(f"{key}: {pattern!r} is not a regular expression: {error}", path=file) from None


def _modules(config: Mapping[str, Any], file: Path) -> None:
    """Names of modules and numbers of layers, as `adapter_tensors.targeted` reads them."""
    for key in ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save"):
        given = config.get(key)
        listed = isinstance(given, list) and all(isinstance(name, str) for name in given)
        if not (given is None or listed or (isinstance(given, str) and key != "modules_to_save")):
            or_text = "" if key == "modules_to_save" else " or one regular expression"
            raise AdapterError(f"{key} is {given!r}; valid: a list of names{or_text}", path=file)
    patterns = {key: config.get(key) for key in ("target_modules", "exclude_modules")}
    of_layers = config.get("layers_pattern") or []
    named = [(key, text) for key, text in patterns.items() if isinstance(text, str)]
    named += [("layers_pattern", text) for text in ([of_layers] if isinstance(of_layers, str) else of_layers)]
    for key, text in named:
        _require_pattern(key, text, file)
    layers = config.get("layers_to_transform")
    numbers = [] if layers is None else layers if isinstance(layers, list) else [layers]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise AdapterError(f"layers_to_transform is {layers!r}; valid: a whole number, or a list of them", path=file)


def is_set(value: Any) -> bool:
    """Whether a configuration value switches something on: null, false and empty ones do not."""
    return not (value is None or value is False or (isinstance(value, str | list | tuple | dict) and not value))


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
