"""What runs inside vLLM's workers, over a stand-in for the model that vLLM holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from foreshock.jobs.engines.vllm.worker import WorkerExtension, locate, sample_indices

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


class Loaded(torch.nn.Module):
    """Joined and padded as vLLM holds them; one tensor repacked."""

    packed_modules_mapping = PACKED

    def __init__(self, files: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.layer = torch.nn.Module()
        self.layer.qkv_proj = torch.nn.Linear(1, 1, bias=False)
        joined = torch.cat([files[f"layer.{part}.weight"] for part in PACKED["qkv_proj"]])
        self.layer.qkv_proj.weight = torch.nn.Parameter(joined)
        self.embed = torch.nn.Embedding(1, 1)
        padding = torch.zeros(3, 8)
        self.embed.weight = torch.nn.Parameter(torch.cat([files["embed.weight"], padding]))
        self.norm = torch.nn.Parameter(files["norm"].to(torch.bfloat16))
        self.repacked = torch.nn.Parameter(files["repacked"].flip(0))

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * 3


@pytest.fixture
def files() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    rows = {"q_proj": 16, "k_proj": 4, "v_proj": 4}
    tensors = {f"layer.{name}.weight": torch.randn(n, 8) for name, n in rows.items()}
    return tensors | {
        "embed.weight": torch.randn(13, 8),
        "norm": torch.randn(8),
        "repacked": torch.randn(6, 8),
        "quantised.scales": torch.randn(2),
    }


def worker(model: torch.nn.Module) -> WorkerExtension:
    extension = WorkerExtension()
    config = SimpleNamespace(model_config=SimpleNamespace(model="/served"))
    extension.model_runner = SimpleNamespace(get_model=lambda: model, vllm_config=config)
    return extension


def test_joined_padded_and_cast_tensors_are_compared(files: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(files, tmp_path / "model.safetensors")
    found = worker(Loaded(files)).foreshock_compare_weights(str(tmp_path))
    assert set(found["equal"]) == set(files) - {"repacked", "quantised.scales"}
    assert found["differ"] == ["repacked"]


@pytest.mark.parametrize(
    "changed", ["layer.q_proj.weight", "layer.k_proj.weight", "layer.v_proj.weight", "embed.weight"]
)
def test_one_changed_tensor_is_found(files: dict[str, torch.Tensor], tmp_path: Path, changed: str) -> None:
    model = Loaded(files)
    save_file(files | {changed: files[changed] + 0.01}, tmp_path / "model.safetensors")
    assert set(worker(model).foreshock_compare_weights(str(tmp_path))["differ"]) == {"repacked", changed}


class Output(torch.nn.Module):
    """An output layer that multiplies with a packed copy of its weights, as vLLM's do on a CPU."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.quant_method = SimpleNamespace(
            process_weights_after_loading=Output.pack, apply=lambda layer, hidden: layer.cpu_linear(hidden)
        )
        self.pack()

    def pack(self) -> None:
        packed = self.weight.detach().clone()
        self.cpu_linear = lambda hidden: hidden @ packed.T


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_output_layer_that_works_with_old_weights_is_found_and_packed_anew(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    save_file({"norm": torch.ones(2)}, tmp_path / "model.safetensors")
    model = torch.nn.Module()
    model.lm_head = Output(torch.randn(40, 16, dtype=dtype))
    extension = worker(model)
    assert extension.foreshock_compare_weights(str(tmp_path))["equal"] == ["output"]
    model.lm_head.weight.copy_(torch.randn(40, 16, dtype=dtype))
    assert extension.foreshock_compare_weights(str(tmp_path))["differ"] == ["output"]
    extension.foreshock_repack()
    assert extension.foreshock_compare_weights(str(tmp_path))["equal"] == ["output"]


def test_logits_are_divided_until_they_are_not(files: dict[str, torch.Tensor]) -> None:
    model = Loaded(files)
    extension = worker(model)
    hidden = torch.ones(2, dtype=torch.bfloat16)
    extension.foreshock_divide_logits(0.5)
    assert model.compute_logits(hidden).tolist() == [6.0, 6.0]
    assert model.compute_logits(hidden).dtype is torch.float32
    extension.foreshock_divide_logits(2.0)  # replaces, does not pile up
    assert model.compute_logits(hidden).tolist() == [1.5, 1.5]
    extension.foreshock_divide_logits(1.0)
    assert model.compute_logits(hidden).tolist() == [3.0, 3.0]
    assert extension.foreshock_weights_path() == "/served"


def test_parts_are_located_in_order() -> None:
    shapes = {"l.q_proj.weight": (16, 8), "l.k_proj.weight": (4, 8), "l.v_proj.weight": (4, 8), "l.q_proj.bias": (16,)}
    assert locate("l.v_proj.weight", shapes, PACKED) == ("l.qkv_proj.weight", 20)
    assert locate("l.q_proj.bias", shapes, PACKED) == ("l.qkv_proj.bias", 0)
    assert locate("l.o_proj.weight", shapes, PACKED) == ("l.o_proj.weight", 0)


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (1, 1), (40, 60, 2)])
def test_samples_lie_inside_and_reach_the_corners(shape: tuple[int, ...]) -> None:
    indices = list(sample_indices(shape))
    assert all(0 <= i < n for index in indices for i, n in zip(index, shape, strict=True))
    assert indices[0] == (0,) * len(shape)
    assert {index[0] for index in indices} >= {0, shape[0] - 1}
