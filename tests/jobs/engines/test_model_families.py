"""Each model family from problem to code: gpt-oss with Harmony, Qwen3 with <think>, Llama with its chat template.

Random models of the real architectures, small tokenizers with the families' own control tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from foreshock.jobs.answers.extract import extract_code
from foreshock.jobs.engines.base import GenerationRequest, ScoreRequest
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import encode_prompt, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.scoring.levels import plan_scoring

CODE = "def solve(x):\n    return x + 3\n"
FENCED = f"The answer:\n```python\n{CODE}```\n"
PREFILL = "I read the task: first the loop, then the sum"


@dataclass(frozen=True)
class Family:
    """`answered` is a whole response as the family writes it, from inside the open reasoning on."""

    architecture: str
    tokenizer: str
    format: str
    opening: str
    answered: str


FAMILIES = [
    Family(
        "gpt_oss",
        "harmony",
        "harmony",
        "<|start|>assistant<|channel|>analysis<|message|>",
        f", then more.<|end|><|start|>assistant<|channel|>final<|message|>{FENCED}",
    ),
    Family("qwen3", "think_closed", "think", "<|im_start|>assistant\n<think>\n", f", then more.\n</think>\n\n{FENCED}"),
    Family("llama", "chat", "chat", "<|im_start|>assistant\n", f", then more.\n{FENCED}"),
]


@pytest.fixture(params=FAMILIES, ids=[family.architecture for family in FAMILIES])
def family(request: Any) -> Any:
    return request.param


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Checkpoint], family: Family) -> Checkpoint:
    return make_checkpoint(family.architecture, tokenizer=family.tokenizer)


def test_from_the_prompt_to_tokens_and_scores(checkpoint: Checkpoint, family: Family) -> None:
    from transformers import AutoModelForCausalLM

    prompt_format = select_format("auto", load_tokenizer(checkpoint.path))
    assert prompt_format.name == family.format
    levels = {n: prompt_format.render("Be brief.", "Add three.", " ".join(PREFILL.split()[:n])) for n in (0, 2, 5, 10)}
    assert levels[10].text.endswith(family.opening + PREFILL)
    requests = [
        GenerationRequest(n, prompt.token_ids, seed=n, max_tokens=12, stop_token_ids=prompt_format.stop_token_ids)
        for n, prompt in levels.items()
    ]
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    plan = plan_scoring({"trace": levels})
    with TransformersEngine(device="cpu") as engine:
        engine.load(checkpoint)
        results = list(engine.generate(requests))
        scores = plan.collect(engine.score(plan.requests, 0.7))["trace"]
        own = list(engine.score([ScoreRequest(n, p.token_ids, p.prefill_start) for n, p in levels.items() if n], 0.7))
    assert all(result.error is None for result in results)
    for result in results:
        prompt_format.parse(result.token_ids, result.text)  # random text is taken apart without complaint
    assert scores[0].logprob_sum == 0.0
    for found in own:
        with torch.no_grad():
            logits = model(torch.tensor([found.token_ids])).logits[0].double() / 0.7
        brute = [
            float(logits.log_softmax(-1)[i - 1, found.token_ids[i]])
            for i in range(found.prefill_start, len(found.token_ids))
        ]
        assert found.logprobs == pytest.approx(brute, abs=5e-5)
        assert scores[found.request_id].token_logprobs == pytest.approx(brute, abs=5e-5)


def test_the_code_is_found_in_a_response_as_the_family_writes_it(checkpoint: Checkpoint, family: Family) -> None:
    tokenizer = load_tokenizer(checkpoint.path)
    prompt_format = select_format("auto", tokenizer)
    parsed = prompt_format.parse(encode_prompt(tokenizer, family.answered), family.answered)
    assert parsed.reasoning.strip().startswith(", then more.")
    assert extract_code(parsed.answer, "solve") == CODE.strip() or extract_code(parsed.answer, "solve") == CODE


def test_reasoning_that_never_ends_has_no_code(checkpoint: Checkpoint, family: Family) -> None:
    tokenizer = load_tokenizer(checkpoint.path)
    prompt_format = select_format("auto", tokenizer)
    cut = ", then the loop and the sum and"
    parsed = prompt_format.parse(encode_prompt(tokenizer, cut), cut)
    assert extract_code(parsed.answer, "solve") is None


def test_the_familys_end_of_turn_stops_generation(checkpoint: Checkpoint, family: Family) -> None:
    tokenizer = load_tokenizer(checkpoint.path)
    stops = {tokenizer.convert_ids_to_tokens(i) for i in select_format("auto", tokenizer).stop_token_ids}
    wanted = {"harmony": {"<|return|>", "<|call|>"}, "think": {"<|im_end|>"}, "chat": {"<|im_end|>"}}[family.format]
    assert wanted <= stops
    assert "<|end|>" not in stops  # ends a Harmony message, not the turn
