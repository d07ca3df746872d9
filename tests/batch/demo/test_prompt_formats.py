"""The demo's model is asked exactly what it was trained on, by the ordinary prompt formats."""

from __future__ import annotations

import pytest

from foreshock.batch.demo.corpus import Phase, make_items
from foreshock.batch.demo.encoding import encode
from foreshock.batch.demo.tokenizer import train_tokenizer
from foreshock.jobs.prefill import cut_words
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.registry import select_format


@pytest.mark.parametrize("name", ["auto", "chat", "think"])
def test_evaluation_renders_the_training_ids_at_every_level_and_parses_them_back(name: str) -> None:
    items = make_items(Phase.BASE, 48, 0)
    tokenizer = train_tokenizer(items)
    prompt_format = select_format(name, tokenizer)
    assert tokenizer.eos_token_id in prompt_format.stop_token_ids
    for item, encoded in zip(items, encode(items, tokenizer), strict=True):
        user = build_user_message(item.problem, "bare")
        for level in (0, 2, 5, 10, 20, 30):
            rendered = prompt_format.render(None, user, cut_words(item.trace.reasoning, level))
            assert rendered.prefill_start == encoded.start
            assert rendered.token_ids == encoded.ids[: len(rendered.token_ids)]
            rest = encoded.ids[len(rendered.token_ids) : -1]
            parsed = prompt_format.parse(rest, tokenizer.decode(rest, clean_up_tokenization_spaces=False))
            assert parsed.answer is not None
            assert parsed.answer.strip() == f"```python\n{item.trace.code}\n```"
