"""Rotary frequencies that change with length: a row is what it is alone, and what the model's own code makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from foreshock.jobs.engines.base import GenerationRequest, ScoreRequest
from foreshock.jobs.engines.rope import RopeSwitch, rope_switch
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.records.spec import Checkpoint

AT = 32
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def phi3(vocab: int) -> Any:
    rope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0 + i for i in range(8)]}
    return transformers.Phi3ForCausalLM(
        transformers.Phi3Config(
            vocab_size=vocab,
            max_position_embeddings=256,
            original_max_position_embeddings=AT,
            rope_scaling=rope,
            **SHAPE,
        )
    )


def dynamic_llama(vocab: int) -> Any:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=vocab, max_position_embeddings=AT, rope_parameters=rope, **SHAPE)
    )


@pytest.fixture(scope="module", params=[phi3, dynamic_llama], ids=["longrope", "dynamic"])
def checkpoint(request: Any, tokenizers: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("rope") / "checkpoint-1"
    request.param(len(tokenizers["think"])).save_pretrained(path)
    tokenizers["think"].save_pretrained(path)
    return Checkpoint("run", 1, path)


def tokens(n: int, seed: int = 0) -> tuple[int, ...]:
    return tuple((11 * i + 5 * seed + 1) % 97 for i in range(n))


def own_scores(path: Path, ids: tuple[int, ...], start: int) -> list[float]:
    """What the model's own forward pass gives, in a model that has seen nothing before."""
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids))]


def own_continuation(path: Path, ids: tuple[int, ...], n: int) -> list[int]:
    """The model's greedy continuation, by `generate`; of LongRoPE, every token by a pass over all before it.

    That is what Phi-3's `generate` means to do at the switch. transformers 5.16 to 5.19 drop the cache there and go on
    with the last token alone.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    if isinstance(model, transformers.Phi3ForCausalLM):
        said = list(ids)
        with torch.inference_mode():
            for _ in range(n):
                said.append(int(model(torch.tensor([said])).logits[0, -1].argmax()))
        return said[len(ids) :]
    prompt = torch.tensor([ids])
    said = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, do_sample=False)[0].tolist()
    return said[len(ids) :]


def test_scores_are_those_of_the_model_alone_whatever_else_is_in_the_batch(checkpoint: Checkpoint) -> None:
    lengths = (80, 20, AT - 1, AT, AT + 1, 60, 60)
    requests = [ScoreRequest(k, tokens(n, k), 10) for k, n in enumerate(lengths)]
    with TransformersEngine(device="cpu", threads=1) as engine:
        engine.load(checkpoint)
        together = {r.request_id: r for r in engine.score(requests, 1.0)}
    for request in requests:
        assert together[request.request_id].error is None
        expected = own_scores(checkpoint.path, request.token_ids, 10)
        assert list(together[request.request_id].logprobs) == pytest.approx(expected, abs=1e-4)


def test_greedy_continuations_are_those_of_generate_across_the_switch(checkpoint: Checkpoint) -> None:
    lengths = (10, 20, AT - 1, AT, AT + 1, 50, 20)
    requests = [
        GenerationRequest(k, tokens(n, k), 0, 30, temperature=0.0, stop_token_ids=(2,)) for k, n in enumerate(lengths)
    ]
    with TransformersEngine(device="cpu", threads=1) as engine:
        engine.load(checkpoint)
        together = {r.request_id: list(r.token_ids) for r in engine.generate(requests)}
    for request in requests:
        expected = own_continuation(checkpoint.path, request.prompt_token_ids, 30)
        ended = expected[: expected.index(2)] if 2 in expected else expected
        assert together[request.request_id] == ended


def test_a_level_is_not_read_off_a_longer_one_with_other_frequencies(checkpoint: Checkpoint) -> None:
    with TransformersEngine(device="cpu", threads=1) as engine:
        engine.load(checkpoint)
        assert engine.covers(20, AT)
        assert not engine.covers(20, AT + 1)


@pytest.mark.parametrize(
    ("make", "expected"),
    [(phi3, RopeSwitch("longrope", AT)), (dynamic_llama, RopeSwitch("dynamic", AT, 4 * AT))],
)
def test_the_switch_is_read_off_the_configuration(make: Callable[[int], Any], expected: RopeSwitch) -> None:
    assert rope_switch(make(300).config) == expected


def test_most_models_have_no_switch() -> None:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3 |= {"original_max_position_embeddings": AT, "rope_theta": 1e4}
    assert rope_switch(transformers.LlamaConfig(**SHAPE)) is None
    assert rope_switch(transformers.LlamaConfig(rope_parameters=llama3, **SHAPE)) is None
