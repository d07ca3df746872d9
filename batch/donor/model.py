"""The model that becomes a donor: loaded as the engine loads it, made trainable, saved as a checkpoint."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from foreshock.batch.donor.settings import Method, TrainingSettings
from foreshock.errors import InputError
from foreshock.jobs.engines.weights import build_model, read_model_config
from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import stated_dtype
from foreshock.jobs.prompts.tokenizer import tokenizer_files
from foreshock.jobs.quiet_bars import no_library_bars
from foreshock.jobs.records.spec import Checkpoint


def require_trainable(target: Checkpoint, method: Method) -> None:
    """Raise InputError for LoRA without peft, and for quantised weights."""
    if method is Method.LORA and importlib.util.find_spec("peft") is None:
        raise InputError(
            "--method lora needs peft, which is not installed",
            fix="pip install 'foreshock[train]', or train all weights: --method full",
        )
    config = read_model_config(target.path)
    if getattr(config, "quantization_config", None):
        raise InputError(
            "its weights are quantised, and a donor trained on those could not be scored beside it exactly",
            path=target.path,
            fix="give the model in bfloat16",
        )


def load_trainable(target: Checkpoint, settings: TrainingSettings, device: torch.device, dtype: torch.dtype) -> Any:
    """The target on `device`, with the parameters that are trained in float32 and requiring gradients.

    An adapter is folded into its base first. LoRA's base stays in `dtype`.
    """
    own = torch.float32 if settings.method is Method.FULL else dtype
    model = build_model(target.path, read_model_config(target.path), own, device)
    if settings.method is Method.FULL:
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fan_in_fan_out of GPT-2's layers, which peft then sets itself
        return get_peft_model(model, lora)


def trained_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that training changes, by name; shared ones once."""
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def set_tensors(model: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `trained_tensors` gave. Raises ValueError where the names are others."""
    held = trained_tensors(model)
    if held.keys() != tensors.keys():
        raise ValueError("these are not this model's parameters")
    with torch.no_grad():
        for name, tensor in tensors.items():
            held[name].copy_(tensor)


def save_donor(model: Any, target: Checkpoint, method: Method, folder: Path) -> None:
    """Write a checkpoint with the target's own tokenizer files: an adapter for LoRA on a full model, else all weights
    in the target's type (an adapter's adapter could not be served)."""
    folder.mkdir(parents=True, exist_ok=True)
    base = base_of(target.path) if is_adapter(target.path) else target.path
    with no_library_bars(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if method is Method.LORA and not is_adapter(target.path):
            for config in model.peft_config.values():
                config.base_model_name_or_path = str(target.path)
                if isinstance(config.target_modules, set):  # whose order is another in every process
                    config.target_modules = sorted(config.target_modules)
            model.save_pretrained(str(folder), save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # a model card without content
        else:
            whole = model.merge_and_unload() if method is Method.LORA else model
            whole.to(_stored_dtype(base))
            whole.generation_config = type(whole.generation_config)()  # the target's own file is copied below
            whole.save_pretrained(str(folder))
            (folder / "generation_config.json").unlink(missing_ok=True)
    _copy_beside(base, target, folder)


def _stored_dtype(folder: Path) -> torch.dtype:
    from foreshock.jobs.model_files.weight_files import read_config

    found = getattr(torch, stated_dtype(read_config(folder / "config.json")), None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _copy_beside(base: Path, target: Checkpoint, folder: Path) -> None:
    """The tokenizer's files, and the end tokens that the target names."""
    for file in tokenizer_files(target.tokenizer_path):
        if file.name != "config.json" and file.suffix != ".py":
            copy = folder / file.relative_to(target.tokenizer_path)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
    for source in dict.fromkeys((target.path, base)):
        file = source / "generation_config.json"
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
            return
