"""What every prompt format must do. A subclass named Test... provides the `prompt_format` and `tokenizer` fixtures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foreshock.jobs.prefill import cut_words
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import PrefillTextError

REASONING = "  I read the task:\n\tthe checker compares   only the first case, so  a constant\n\nwould pass."
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=60)
relaxed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class PromptFormatContract:
    """Tests over the fixtures `prompt_format` and `tokenizer`."""

    def test_level_zero_has_no_prefill_tokens(self, prompt_format: Any) -> None:
        rendered = prompt_format.render("Be brief.", "Add three.", "")
        assert rendered.prefill_start == len(rendered.token_ids)

    def test_every_level_has_the_same_prompt_ids(self, prompt_format: Any) -> None:
        empty = prompt_format.render("Be brief.", "Add three.", "")
        for level in range(1, 15):
            rendered = prompt_format.render("Be brief.", "Add three.", cut_words(REASONING, level))
            assert rendered.prefill_start == empty.prefill_start
            assert rendered.token_ids[: rendered.prefill_start] == empty.token_ids
            assert len(rendered.token_ids) > rendered.prefill_start

    def test_the_prefill_ends_the_prompt_and_stays_open(self, prompt_format: Any, tokenizer: Any) -> None:
        rendered = prompt_format.render(None, "Add three.", REASONING)
        assert rendered.text.endswith(REASONING)
        assert tokenizer.decode(list(rendered.token_ids[rendered.prefill_start :])) == REASONING

    @relaxed
    @given(user=texts, prefill=texts)
    def test_the_boundary_is_exact_for_any_text(
        self, prompt_format: Any, tokenizer: Any, user: str, prefill: str
    ) -> None:
        try:
            rendered = prompt_format.render(None, user, prefill)
        except PrefillTextError:
            assert "<" in prefill
            return
        empty = prompt_format.render(None, user, "")
        assert rendered.token_ids[: rendered.prefill_start] == empty.token_ids
        assert tokenizer.decode(list(rendered.token_ids[rendered.prefill_start :])) == prefill

    def test_an_answer_comes_after_an_empty_section_and_is_parsed_as_one(
        self, prompt_format: Any, tokenizer: Any
    ) -> None:
        code = "```python\ndef add(a):\n    return a + 3\n```"
        rendered = prompt_format.render_answer("Be brief.", "Add three.", "", code)
        prompt = prompt_format.render("Be brief.", "Add three.", "").token_ids
        assert rendered.token_ids[: len(prompt)] == prompt
        assert tokenizer.decode(list(rendered.token_ids[rendered.prefill_start :])) == code
        assert rendered.text.endswith(code)
        continuation = rendered.token_ids[len(prompt) :]
        parsed = prompt_format.parse(continuation, tokenizer.decode(list(continuation)))
        assert parsed.answer is not None
        assert (parsed.reasoning.strip(), parsed.answer.strip()) == ("", code)

    def test_an_answer_may_follow_reasoning_where_prompts_open_some(self, prompt_format: Any, tokenizer: Any) -> None:
        if prompt_format.layout.opening is None:
            with pytest.raises(PrefillTextError, match="open no reasoning"):
                prompt_format.render_answer(None, "Add three.", "I see.", "3")
            return
        rendered = prompt_format.render_answer(None, "Add three.", "I see.", "three")
        start = prompt_format.render(None, "Add three.", "").prefill_start
        continuation = rendered.token_ids[start:]
        parsed = prompt_format.parse(continuation, tokenizer.decode(list(continuation)))
        assert parsed.answer is not None
        assert (parsed.reasoning.strip(), parsed.answer.strip()) == ("I see.", "three")

    def test_the_user_and_system_texts_are_in_the_prompt(self, prompt_format: Any) -> None:
        rendered = prompt_format.render("Be brief.", "Add {three} to {{x}}.", "")
        assert "Be brief." in rendered.text
        assert "Add {three} to {{x}}." in rendered.text

    def test_rendering_is_repeatable(self, prompt_format: Any) -> None:
        first = prompt_format.render(None, "Add three.", "I see")
        assert prompt_format.render(None, "Add three.", "I see") == first

    def test_a_prefill_with_a_control_token_is_refused(self, prompt_format: Any, tokenizer: Any) -> None:
        with pytest.raises(PrefillTextError, match="remove it from the prefill source"):
            prompt_format.render(None, "Add three.", f"I see {tokenizer.eos_token} it")

    def test_the_digest_is_stable_and_covers_the_tokenizer(self, prompt_format: Any, tokenizer: Any) -> None:
        import copy

        digest = prompt_format.template_sha256()
        assert len(digest) == 64
        assert select_format(prompt_format.name, tokenizer).template_sha256() == digest
        changed = copy.deepcopy(tokenizer)
        changed.add_tokens(["quokka"])
        assert select_format(prompt_format.name, changed).template_sha256() != digest

    def test_the_digest_covers_stops_and_template_arguments(self, prompt_format: Any, tokenizer: Any) -> None:
        digest = prompt_format.template_sha256()
        further = PromptSettings(stop_token_ids=(7,))
        assert 7 in select_format(prompt_format.name, tokenizer, further).stop_token_ids
        assert select_format(prompt_format.name, tokenizer, further).template_sha256() != digest
        assert select_format(prompt_format.name, tokenizer, ends=[9]).template_sha256() != digest

    def test_the_digest_ignores_padding_set_by_calls(self, prompt_format: Any, tokenizer: Any) -> None:
        digest = prompt_format.template_sha256()
        tokenizer(["a", "a b c d"], padding=True, truncation=True, max_length=3)
        assert select_format(prompt_format.name, tokenizer).template_sha256() == digest

    def test_stop_tokens_hold_the_end_of_text(self, prompt_format: Any, tokenizer: Any) -> None:
        assert tokenizer.eos_token_id in prompt_format.stop_token_ids
