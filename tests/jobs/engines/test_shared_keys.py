"""Keys that heads share are not copied for a step on a CPU, and its logits are the same bits."""

from __future__ import annotations

import pytest
import torch
import transformers

from foreshock.jobs.engines.model_classes import DynamicCache, sdpa_attention
from foreshock.jobs.engines.shared_keys import keys_stay_shared

VOCAB = 50


@pytest.fixture(scope="module")
def model() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return transformers.LlamaForCausalLM(config).eval()


@torch.inference_mode()
def step(model: transformers.LlamaForCausalLM, rows: int, length: int) -> torch.Tensor:
    """Logits after one more token a row, the first tokens of some rows being hidden by a mask."""
    ids = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(length))
    cache = DynamicCache()
    model(ids, past_key_values=cache, use_cache=True)
    mask = torch.zeros(rows, 1, 1, length + 1)
    mask[::2, :, :, : length // 2] = torch.finfo(torch.float32).min
    logits: torch.Tensor = model(ids[:, :1], attention_mask=mask, past_key_values=cache, use_cache=True).logits
    return logits


@pytest.mark.parametrize("rows", [1, 8, 17])
@pytest.mark.parametrize("length", [3, 64, 300])
def test_a_step_has_the_same_bits(model: transformers.LlamaForCausalLM, rows: int, length: int) -> None:
    plain = step(model, rows, length)
    with keys_stay_shared():
        assert torch.equal(step(model, rows, length), plain)


def test_nothing_is_copied_within_and_all_is_as_before_afterwards(
    model: transformers.LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[int] = []
    original = sdpa_attention.repeat_kv

    def counted(hidden: torch.Tensor, n: int) -> torch.Tensor:
        copies.append(n)
        repeated: torch.Tensor = original(hidden, n)
        return repeated

    monkeypatch.setattr(sdpa_attention, "repeat_kv", counted)
    with keys_stay_shared():
        step(model, 2, 5)
    assert copies == []
    step(model, 2, 5)
    assert copies == [3, 3] * 2


def test_other_types_go_as_transformers_would_have_it() -> None:
    key = torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16)
    mask = torch.zeros(1, 1, 1, 1)
    with keys_stay_shared():
        assert not sdpa_attention.use_gqa_in_sdpa(mask, key, key)
        assert sdpa_attention.use_gqa_in_sdpa(mask, key.float(), key.float())
    assert not sdpa_attention.use_gqa_in_sdpa(mask, key.float(), key.float())
