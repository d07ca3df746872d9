"""Training items as token ids, batched by length.

An item is rendered by the tokenizer's chat template and split where the generation prompt ends, and the two parts are
tokenised apart, exactly as evaluation renders prompt and prefill; only the second part is trained on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from foreshock.batch.demo.corpus import Item
from foreshock.batch.demo.tokenizer import messages
from foreshock.batch.donor.encoded import Encoded


def encode(items: Sequence[Item], tokenizer: Any) -> list[Encoded]:
    """Every item's ids. Raises ValueError if the template's prompt is no prefix of the whole conversation."""
    prompts, answers = [], []
    for item in items:
        conversation = messages(item)
        prompt = tokenizer.apply_chat_template(conversation[:1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(conversation, tokenize=False)
        if not whole.startswith(prompt):
            raise ValueError("the chat template's generation prompt is not a prefix of the conversation")
        prompts.append(prompt)
        answers.append(whole[len(prompt) :])
    encoded = zip(
        tokenizer(prompts, add_special_tokens=False)["input_ids"],
        tokenizer(answers, add_special_tokens=False)["input_ids"],
        strict=True,
    )
    return [Encoded((*prompt, *answer), len(prompt)) for prompt, answer in encoded]


def batches(encoded: Sequence[Encoded], size: int, rng: random.Random) -> list[list[Encoded]]:
    """Batches of neighbours in length within pools of 16 batches, in random order: little padding, little bias."""
    pool = size * 16
    result: list[list[Encoded]] = []
    for start in range(0, len(encoded), pool):
        part = sorted(encoded[start : start + pool], key=lambda item: len(item.ids))
        cut = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(cut)
        result.extend(batch for batch in cut if len(batch) == size)
    return result
