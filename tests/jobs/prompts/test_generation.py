"""Families of tiny random models: greedy continuations are those of `generate()`, and end where it ends them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from template_families import FAMILIES
from template_family import Family
from tiny_tokenizer import train_tokenizer

from foreshock.errors import InputError
from foreshock.jobs.engines.base import FinishReason, GenerationRequest
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.stops import model_ends
from foreshock.jobs.records.spec import Checkpoint

MAX_TOKENS = 40
Save = Callable[..., Checkpoint]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """save(family, ends=[...]) -> a checkpoint of a random Llama with the family's tokenizer and generation config."""
    import transformers

    def make(family: Family, ends: list[str] | None = None) -> Checkpoint:
        tokens = family.tokens()
        tokenizer = train_tokenizer(tokens, family.template, family.eos, vocab=400 + len(tokens))
        torch.manual_seed(len(family.name))
        config = transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.3,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            pad_token_id=0,
        )
        model = transformers.LlamaForCausalLM(config)
        model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(t) for t in ends or [family.eos]]
        path = tmp_path / family.name / "checkpoint-1"
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        return Checkpoint("run", 1, path)

    return make


def continuations(model: Any, prompts: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """What `generate()` adds to each prompt, its end token included: prompts of one length at a time, so unpadded."""
    found = {}
    ends = set(model.generation_config.eos_token_id)
    for length in {len(ids) for ids in prompts}:
        mine = [i for i, ids in enumerate(prompts) if len(ids) == length]
        with torch.no_grad():
            whole = model.generate(torch.tensor([prompts[i] for i in mine]), max_new_tokens=MAX_TOKENS, do_sample=False)
        for i, row in zip(mine, whole[:, length:].tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
            assert set(row[end + 1 :]) <= {0}  # rows that have ended are padded
            found[i] = row[: end + 1]
    assert sorted(found) == list(range(len(prompts)))
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_greedy_continuations_are_those_of_generate(save: Save, family: Family) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = save(family, [family.eos, *family.ends])
    prompt_format = checkpoint_format("auto", checkpoint, PromptSettings(template_args=family.arguments))
    prompts = [prompt_format.render(None, f"Add {n}.", text).token_ids for n in range(6) for text in ("", "I see")]
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    requests = [
        GenerationRequest(i, ids, 0, MAX_TOKENS, temperature=0.0, stop_token_ids=prompt_format.stop_token_ids)
        for i, ids in enumerate(prompts)
    ]
    with TransformersEngine(device="cpu", dtype="float32") as engine:
        engine.load(checkpoint)
        results = {result.request_id: result for result in engine.generate(requests)}
    for i, own in continuations(model, prompts).items():
        ended = own[-1] in prompt_format.stop_token_ids
        assert list(results[i].token_ids) == (own[:-1] if ended else own)
        assert results[i].finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)


def test_a_final_message_ends_at_the_token_that_also_ends_the_reasoning(save: Save) -> None:
    """A model that continues a given text token by token: the engine itself stops, with nothing after the end."""
    family = next(f for f in FAMILIES if f.name == "gpt-oss")
    checkpoint = save(family)
    prompt_format = checkpoint_format("auto", checkpoint)
    prompt = prompt_format.render(None, "Go", "I see")
    with TransformersEngine(device="cpu", dtype="float32") as engine:
        engine.load(checkpoint)
        tokenizer: Any = engine._tokenizer
        script = tokenizer.encode(f"{family.answered}<|end|><|start|>user<|message|>more", add_special_tokens=False)
        steps: list[int] = []

        def scripted(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            step = min(len(steps), len(script) - 1)
            steps.append(step)
            output = torch.full_like(output, -9.0)
            output[..., script[step]] = 9.0
            return output

        engine._model.model.get_output_embeddings().register_forward_hook(scripted)
        request = GenerationRequest(
            0,
            prompt.token_ids,
            0,
            200,
            0.0,
            stop_token_ids=prompt_format.stop_token_ids,
            late_stops=prompt_format.late_stops,
        )
        (result,) = engine.generate([request])
    assert result.text == family.answered
    assert result.finish_reason is FinishReason.STOP
    assert len(steps) == len(tokenizer.encode(f"{family.answered}<|end|>", add_special_tokens=False))


def test_a_continuation_ends_at_a_token_that_only_the_generation_config_names(save: Save) -> None:
    family = next(f for f in FAMILIES if f.name == "qwen3")
    checkpoint = save(family)
    prompt = checkpoint_format("auto", checkpoint).render(None, "Go", "I see")

    def greedy() -> list[int]:
        ends = checkpoint_format("auto", checkpoint).stop_token_ids
        request = GenerationRequest(0, prompt.token_ids, 0, MAX_TOKENS, 0.0, stop_token_ids=ends)
        with TransformersEngine(device="cpu", dtype="float32") as engine:
            engine.load(checkpoint)
            (result,) = engine.generate([request])
        return list(result.token_ids)

    free = greedy()
    assert len(free) > 3
    file = checkpoint.path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": [free[3]]}))
    assert greedy() == free[: free.index(free[3])]


# -- the ends that a model's files name


def _write(folder: Path, **files: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_generation_config_comes_before_the_model_config(tmp_path: Path) -> None:
    config = {"eos_token_id": 3}
    assert model_ends(_write(tmp_path / "a", config=config, generation_config={"eos_token_id": [5, 7]})) == (5, 7)
    assert model_ends(_write(tmp_path / "b", config=config, generation_config={})) == (3,)
    assert model_ends(_write(tmp_path / "c", config={"text_config": {"eos_token_id": 9}})) == (9,)
    assert model_ends(_write(tmp_path / "d", config={})) == ()


def test_ends_that_are_no_token_ids_are_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", config={}, generation_config={"eos_token_id": "</s>"})
    with pytest.raises(InputError, match=r"generation_config\.json: eos_token_id is '</s>'; valid: a token id"):
        model_ends(folder)


def test_generation_config_ends_are_stops(save: Save) -> None:
    family = next(f for f in FAMILIES if f.name == "llama3")
    checkpoint = save(family, [family.eos, "<|start_header_id|>"])
    ids = checkpoint_format("auto", checkpoint).stop_token_ids
    assert len(ids) == 3  # the end of text, the one that the config adds, the one that the template writes
