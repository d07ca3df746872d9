"""Options of the vLLM engine: what is refused, what vLLM is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreshock.errors import InputError
from foreshock.jobs.engines.vllm.core import start_core
from foreshock.jobs.engines.vllm.options import VllmOptions, lora_rank_for


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float8"}, "unknown dtype 'float8'; valid: auto, float32, bfloat16, float16"),
        ({"device": "tpu"}, "unknown device 'tpu'; valid: auto, cpu, cuda"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
        ({"max_num_seqs": 0}, "max_num_seqs is 0; it must be a whole number of at least 1"),
        ({"tensor_parallel_size": "2"}, "tensor_parallel_size is '2'"),
        ({"extra": {"generation_config": "auto"}}, "extra holds 'generation_config', which the engine sets itself"),
        ({"extra": {"dtype": "auto"}}, "extra holds 'dtype', which is an option of its own"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        VllmOptions(**options)


def test_what_correctness_rests_on_is_always_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    args = VllmOptions().engine_args(Path("/m"), "bfloat16", on_cpu=True, lora_rank=None)
    assert args["model"] == "/m"
    assert args["generation_config"] == "vllm"
    assert args["skip_tokenizer_init"] is True
    assert args["dtype"] == "float32"
    assert args["max_model_len"] == -1
    assert args["enable_chunked_prefill"] is False
    assert args["kv_cache_memory_bytes"] == 2 * 2**30
    assert "enable_lora" not in args
    assert "quantization" not in args


def test_a_gpu_takes_the_checkpoints_own_type_and_vllms_own_cache() -> None:
    options = VllmOptions(quantization="fp8", tensor_parallel_size=4, max_model_len=32_768, extra={"swap_space": 1})
    args = options.engine_args(Path("/m"), "bfloat16", on_cpu=False, lora_rank=16)
    assert args["dtype"] == "auto"
    assert args["quantization"] == "fp8"
    assert args["tensor_parallel_size"] == 4
    assert args["max_model_len"] == 32_768
    assert args["swap_space"] == 1
    assert (args["enable_lora"], args["max_lora_rank"]) == (True, 16)
    assert "kv_cache_memory_bytes" not in args
    assert "enable_chunked_prefill" not in args


@pytest.mark.parametrize(
    ("given", "own", "on_cpu", "dtype"),
    [
        ("auto", "float32", False, "float32"),
        ("auto", "bfloat16", False, "auto"),
        ("auto", "bfloat16", True, "float32"),
        ("bfloat16", "float32", False, "bfloat16"),
        ("bfloat16", "float32", True, "bfloat16"),
    ],
)
def test_auto_never_narrows_a_checkpoints_own_type(given: str, own: str, on_cpu: bool, dtype: str) -> None:
    args = VllmOptions(dtype=given).engine_args(Path("/m"), own, on_cpu=on_cpu, lora_rank=None)
    assert args["dtype"] == dtype


@pytest.mark.parametrize(("given", "on_cpu", "eager"), [(None, True, True), (None, False, False), (False, True, False)])
def test_models_are_compiled_where_that_pays(given: bool | None, on_cpu: bool, eager: bool) -> None:
    args = VllmOptions(enforce_eager=given).engine_args(Path("/m"), "bfloat16", on_cpu=on_cpu, lora_rank=None)
    assert args["enforce_eager"] is eager


def test_the_users_cache_settings_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    assert "kv_cache_memory_bytes" not in VllmOptions().engine_args(Path("/m"), "bfloat16", on_cpu=True, lora_rank=None)
    given = VllmOptions(kv_cache_memory_bytes=7).engine_args(Path("/m"), "bfloat16", on_cpu=True, lora_rank=None)
    assert given["kv_cache_memory_bytes"] == 7


def test_threads_are_not_bound_to_shared_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    environment = VllmOptions(threads=3).environment("float32", on_cpu=True)
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in VllmOptions(threads=3).environment("float32", on_cpu=True)
    assert "VLLM_CPU_OMP_THREADS_BIND" not in VllmOptions(threads=3).environment("float32", on_cpu=False)


def test_a_gpu_computes_float32_as_float32_and_in_fixed_order_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITON_F32_DEFAULT", "VLLM_BATCH_INVARIANT"):
        monkeypatch.delenv(name, raising=False)
    plain, fixed = VllmOptions(), VllmOptions(batch_invariant=True)
    assert plain.environment("float32", on_cpu=False)["TRITON_F32_DEFAULT"] == "ieee"
    assert "TRITON_F32_DEFAULT" not in plain.environment("auto", on_cpu=False)
    assert "VLLM_BATCH_INVARIANT" not in plain.environment("auto", on_cpu=False)
    assert fixed.environment("auto", on_cpu=False)["VLLM_BATCH_INVARIANT"] == "1"
    assert "VLLM_BATCH_INVARIANT" not in fixed.environment("auto", on_cpu=True)


def test_lora_ranks_are_rounded_up_to_what_vllm_reserves() -> None:
    assert [lora_rank_for(rank) for rank in (1, 2, 8, 9, 100, 512, 513)] == [1, 8, 8, 16, 128, 512, None]
    assert lora_rank_for(4, already=64) == 64


def test_without_vllm_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm.engine.arg_utils", None)
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    for name in VllmOptions().environment("float32", on_cpu=True):
        monkeypatch.setenv(name, "")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="needs the vllm package") as caught:
        start_core(VllmOptions(device="cpu"), tmp_path, None)
    assert "foreshock[vllm]" in str(caught.value)
