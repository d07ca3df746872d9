"""What foreshock adds to vLLM's worker processes, called over `collective_rpc`.

Temperature is applied where the logits are. vLLM 0.32 scores prompts at temperature 1 whatever its `logprobs_mode`
says, so while scoring runs at tau the model's logits are divided by tau before vLLM takes their log-softmax: the
whole vocabulary counts, as in the transformers engine, and nothing large leaves the GPU.

This module is imported by vLLM inside its workers; arguments and results are plain data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_SAMPLES = 12
"""Elements compared in every tensor."""

_EXACT, _ROUNDED = 1e-4, 0.02
"""Relative error allowed between two kernels for one product: in float32, in narrower types."""


class WorkerExtension:
    """Mixed into vLLM's worker class; `model_runner` is the worker's."""

    model_runner: Any

    def foreshock_divide_logits(self, temperature: float) -> None:
        """From now on logits are divided by `temperature`; 1 restores the model's own."""
        model = self.model_runner.get_model()
        vars(model).pop("compute_logits", None)
        if temperature == 1:
            return
        original = model.compute_logits

        def divided(*args: Any, **kwargs: Any) -> Any:
            logits = original(*args, **kwargs)
            return None if logits is None else logits.float() / temperature

        vars(model)["compute_logits"] = divided

    def foreshock_repack(self) -> None:
        """Pack anew what a swap has left packed.

        On a CPU, vLLM 0.32 multiplies with a packed copy of a layer's weights. An output layer that shares the
        embeddings' weights gets none of its own from a file, so its copy would stay the one before the swap.
        """
        for layer in self.model_runner.get_model().modules():
            weight = getattr(layer, "weight", None)
            if hasattr(layer, "cpu_linear") and weight is not None and weight.numel() > 0:
                layer.quant_method.process_weights_after_loading(layer)

    def foreshock_compare_weights(self, folder: str) -> dict[str, list[str]]:
        """Compare samples of the loaded weights with a checkpoint's files: names of tensors `equal` and `differ`.

        Tensors without a counterpart of fitting shape (sharded, quantised, renamed) are left out. "output" stands
        for the output layer at work: whether it multiplies with the weights that it holds.
        """
        from safetensors import safe_open

        model = self.model_runner.get_model()
        parameters = {n.replace(".base_layer.", "."): p.data for n, p in model.named_parameters()}
        packed = getattr(model, "packed_modules_mapping", None) or {}
        found: dict[str, list[str]] = {"equal": [], "differ": []}
        shapes: dict[str, Sequence[int]] = {}
        files = sorted(Path(folder).glob("*.safetensors"))
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.offset_keys()}
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.offset_keys():
                    target, offset = locate(name, shapes, packed)
                    loaded = parameters.get(target)
                    if loaded is None or not _fits(shapes[name], offset, loaded.shape):
                        continue
                    same = _samples_equal(tensors.get_slice(name), shapes[name], loaded, offset)
                    found["equal" if same else "differ"].append(name)
        multiplies = _multiplies_with_its_weights(model)
        if multiplies is not None:
            found["equal" if multiplies else "differ"].append("output")
        return found

    def foreshock_weights_path(self) -> str:
        """The directory that this worker last loaded weights from."""
        return str(self.model_runner.vllm_config.model_config.model)


def _multiplies_with_its_weights(model: Any) -> bool | None:
    """Whether the output layer's product with a fixed vector is that of its weights; None where it has no plain ones.

    The layer alone is asked: the model's own logits may be scaled, capped, gathered, or need a batch's adapters.
    """
    import torch

    head = getattr(model, "lm_head", None)
    head = getattr(head, "base_layer", head)
    weight, method = getattr(head, "weight", None), getattr(head, "quant_method", None)
    if weight is None or method is None or weight.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    hidden = torch.sin(torch.arange(weight.shape[1], device=weight.device))[None].to(weight.dtype)
    product, expected = method.apply(head, hidden).float(), torch.nn.functional.linear(hidden, weight).float()
    allowed = (_EXACT if weight.dtype == torch.float32 else _ROUNDED) * expected.abs().max()
    return bool(((product - expected).abs() <= allowed).all())


def locate(name: str, shapes: Mapping[str, Sequence[int]], packed: Mapping[str, Sequence[str]]) -> tuple[str, int]:
    """Name of the loaded parameter that holds a file's tensor, and the row at which it begins there.

    `packed` is vLLM's: {"qkv_proj": ["q_proj", "k_proj", "v_proj"], ...}, joined row by row in that order.
    """
    for joined, parts in packed.items():
        for i, part in enumerate(parts):
            if f".{part}." in name and len(parts) > 1:
                before = [name.replace(f".{part}.", f".{earlier}.") for earlier in parts[:i]]
                rows = sum(shapes[earlier][0] for earlier in before if earlier in shapes)
                return name.replace(f".{part}.", f".{joined}."), rows
    return name, 0


def _fits(shape: Sequence[int], offset: int, loaded: Sequence[int]) -> bool:
    """Whether rows offset.. of the loaded parameter can be the file's tensor; vocabularies are padded at the end."""
    return (
        len(shape) == len(loaded)
        and len(shape) > 0
        and min(shape) > 0
        and offset + shape[0] <= loaded[0]
        and list(shape[1:]) == list(loaded[1:])
    )


def _samples_equal(tensor: Any, shape: Sequence[int], loaded: Any, offset: int) -> bool:
    for index in sample_indices(shape):
        piece = tensor[tuple(slice(i, i + 1) for i in index)].reshape(())
        held = loaded[(index[0] + offset, *index[1:])].cpu()
        if piece.to(held.dtype) != held:
            return False
    return True


def sample_indices(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Elements spread over a tensor, corners included, each at another row and column."""
    for k in range(_SAMPLES):
        yield tuple(((k * (2 * axis + 1)) % _SAMPLES) * (n - 1) // (_SAMPLES - 1) for axis, n in enumerate(shape))
