"""The demo's tokenizer and chat template, as a stranger's renderer would use them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.demo.corpus import Item, Phase, make_items
from foreshock.batch.demo.encoding import batches, encode
from foreshock.batch.demo.tokenizer import VOCAB_SIZE, messages, train_tokenizer
from foreshock.jobs.prompts.problem_prompt import build_user_message


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return make_items(Phase.BASE, 320, 0)


@pytest.fixture(scope="module")
def tokenizer(items: list[Item]) -> Any:
    return train_tokenizer(items)


def test_training_is_repeatable(items: list[Item], tokenizer: Any) -> None:
    assert train_tokenizer(items).get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer) <= VOCAB_SIZE


def test_any_text_survives(tokenizer: Any) -> None:
    for text in ("def f(x):\n    return x\n", "naïve — 你好 \t\n", "<think> x </think>"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_tags_are_single_tokens_and_numbers_one_token_a_digit(tokenizer: Any) -> None:
    for text in ("<think>", "</think>", "<|end|>", " 7"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1
    for text, n in ((" 45", 2), (" 205", 3), (" plus 45.", 4)):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == n


def test_the_tags_are_ordinary_text_when_control_tokens_are_dropped(tokenizer: Any) -> None:
    ids = tokenizer.encode("a</think>b<|end|>", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a</think>b"


def test_the_generation_prompt_opens_the_reasoning(items: list[Item], tokenizer: Any) -> None:
    prompt = tokenizer.apply_chat_template(messages(items[0])[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == f"<|user|>{build_user_message(items[0].problem, 'bare')}<|end|><|assistant|><think>\n"


def test_the_template_survives_saving(tmp_path: Path, items: list[Item], tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    conversation = messages(items[0])
    assert again.apply_chat_template(conversation, tokenize=False) == tokenizer.apply_chat_template(
        conversation, tokenize=False
    )
    assert (again.eos_token, again.pad_token) == ("<|end|>", "<|pad|>")


def test_an_item_is_trained_on_from_the_first_word_of_reasoning_to_the_end_token(
    items: list[Item], tokenizer: Any
) -> None:
    for item, encoded in zip(items, encode(items, tokenizer), strict=True):
        answer = tokenizer.decode(encoded.ids[encoded.start :], clean_up_tokenization_spaces=False)
        assert answer == f"{item.trace.reasoning}\n</think>\n```python\n{item.trace.code}\n```<|end|>"
        assert tokenizer.decode(encoded.ids[: encoded.start]).endswith("<think>\n")


def test_a_prefill_cut_at_a_word_is_tokenised_as_in_training(items: list[Item], tokenizer: Any) -> None:
    for item, encoded in zip(items[:40], encode(items[:40], tokenizer), strict=True):
        words = item.trace.reasoning.split(" ")
        for level in (2, 5, 10, 20, 30):
            prefill = tokenizer.encode(" ".join(words[:level]), add_special_tokens=False)
            assert tuple(prefill) == encoded.ids[encoded.start : encoded.start + len(prefill)]


def test_a_template_whose_prompt_is_no_prefix_is_refused(items: list[Item]) -> None:
    broken = train_tokenizer(items[:16])
    broken.chat_template = "{{ messages[-1].content }}{% if add_generation_prompt %}!{% endif %}"
    with pytest.raises(ValueError, match="not a prefix"):
        encode(items[:1], broken)


def test_batches_are_full_hold_each_item_at_most_once_and_are_close_in_length(
    items: list[Item], tokenizer: Any
) -> None:
    encoded = encode(items, tokenizer)
    cut = batches(encoded, 16, random.Random(0))
    assert [len(batch) for batch in cut] == [16] * 20
    assert sorted(item.ids for batch in cut for item in batch) == sorted(item.ids for item in encoded)
    spread = sum(max(len(i.ids) for i in b) - min(len(i.ids) for i in b) for b in cut) / len(cut)
    assert spread < 30
