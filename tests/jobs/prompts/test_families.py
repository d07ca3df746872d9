"""The derivation over the families of the field: prompts, sections and ends come from their templates alone."""

from __future__ import annotations

from typing import Any

import pytest
from template_families import FAMILIES, QWEN3
from template_family import Family, chatml
from tiny_tokenizer import train_tokenizer

from foreshock.errors import InputError
from foreshock.jobs.engines.base import FinishReason, GenerationRequest
from foreshock.jobs.engines.stopping import finished
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import PrefillTextError, decode

_MADE: dict[str, Any] = {}


def tokenizer_of(family: Family) -> Any:
    if family.name not in _MADE:
        tokens = family.tokens()
        _MADE[family.name] = train_tokenizer(tokens, family.template, family.eos, vocab=400 + len(tokens))
    return _MADE[family.name]


def format_of(family: Family, **settings: Any) -> PromptFormat:
    return select_format("auto", tokenizer_of(family), PromptSettings(template_args=family.arguments, **settings))


@pytest.fixture(params=FAMILIES, ids=[family.name for family in FAMILIES])
def family(request: Any) -> Any:
    return request.param


def test_the_prompt_opens_the_reasoning_as_the_template_does(family: Family) -> None:
    rendered = format_of(family).render(None, "QUESTION", "I see")
    assert rendered.text.split("QUESTION")[1].removeprefix("/nothink") == family.opened + "I see"
    tokenizer = tokenizer_of(family)
    prompt = list(rendered.token_ids[: rendered.prefill_start])
    assert prompt == tokenizer.encode(rendered.text.removesuffix("I see"), add_special_tokens=False)
    assert decode(tokenizer, rendered.token_ids[rendered.prefill_start :]) == "I see"


HISTORY = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}"


@pytest.mark.parametrize(
    ("body", "generation", "head", "certain"),
    [
        (HISTORY, "", "", False),  # Qwen3-Instruct-2507, which does not reason
        (HISTORY, "<think>\n", "", True),
        (HISTORY, "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}", "", True),
        (f"{{% if not m.reasoning_content %}}<think></think>{{% endif %}}{HISTORY}", "", "", True),
        (HISTORY, "", "Reason within <think> and </think>. ", True),
    ],
)
def test_a_template_that_only_keeps_reasoning_leaves_a_doubt_that_the_run_can_settle(
    body: str, generation: str, head: str, certain: bool
) -> None:
    tokens = ["<pad>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = train_tokenizer(tokens, chatml(body, generation, head), "<|im_end|>")
    found = select_format("auto", tokenizer)
    assert found.name == "think"
    assert (found.layout.doubt == "") == certain
    assert select_format("think", tokenizer).layout.doubt == ""


def test_the_closing_is_the_templates(family: Family) -> None:
    assert format_of(family).layout.closing == family.closing


def test_a_response_is_taken_apart_as_the_family_writes_it(family: Family) -> None:
    prompt_format, tokenizer = format_of(family), tokenizer_of(family)
    text = family.answered or "So:\n```python\nANSWER\n```"
    parsed = prompt_format.parse(tuple(tokenizer.encode(text, add_special_tokens=False)), text)
    assert parsed.reasoning.strip() == ("so." if family.answered else "So:")
    assert parsed.answer is not None
    assert parsed.answer.strip() == ("ANSWER" if family.answered else "```python\nANSWER\n```")


def test_a_turn_ends_where_the_template_ends_it(family: Family) -> None:
    prompt_format, tokenizer = format_of(family), tokenizer_of(family)
    ends = {tokenizer.convert_ids_to_tokens(i) for i in prompt_format.stop_token_ids}
    assert set(family.ends) <= ends
    assert ends <= {*family.ends, family.eos, "<|call|>", "<|return|>"}
    late = {tokenizer.convert_ids_to_tokens(i) for stop in prompt_format.late_stops for i in stop.token_ids}
    assert late == set(family.late)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.late], ids=lambda family: family.name)
def test_a_token_that_ends_reasoning_and_answer_ends_only_the_answer(family: Family) -> None:
    prompt_format, tokenizer = format_of(family), tokenizer_of(family)
    (token,) = family.late
    drawn = tuple(tokenizer.encode(f"{family.answered}{token}<|start|>user", add_special_tokens=False))
    request = GenerationRequest(0, (1,), 0, 99, late_stops=prompt_format.late_stops)
    result = finished(request, lambda ids: decode(tokenizer, ids), drawn, FinishReason.LENGTH)
    assert (result.text, result.finish_reason) == (family.answered, FinishReason.STOP)
    assert prompt_format.parse(result.token_ids, result.text).answer == "ANSWER"


def test_prefills_that_hold_a_marker_of_the_section_are_refused(family: Family) -> None:
    prompt_format = format_of(family)
    if family.closing is None:
        pytest.skip("this family has no section open")
    with pytest.raises(PrefillTextError, match="remove it from the prefill source"):
        prompt_format.render(None, "QUESTION", f"I see {family.closing} it")


def test_code_begun_in_the_forced_words_is_refused_where_it_would_be_the_answer(family: Family) -> None:
    prompt_format = format_of(family)
    begun, ended = "I write\n```python\ndef f", "I write\n```python\nx\n```\nand then"
    prompt_format.render(None, "QUESTION", ended)
    if family.closing is not None:
        assert prompt_format.render(None, "QUESTION", begun).text.endswith(begun)
    else:
        with pytest.raises(PrefillTextError, match="ends inside a code block"):
            prompt_format.render(None, "QUESTION", begun)


# -- what a run sets itself


def test_the_runs_own_markers_take_the_place_of_the_templates() -> None:
    prompt_format = format_of(QWEN3, opening="<reason>\n", closing="</reason>")
    rendered = prompt_format.render(None, "QUESTION", "I see")
    assert rendered.text.endswith("<|im_start|>assistant\n<reason>\nI see")
    assert prompt_format.parse((), " so</reason>x").answer == "x"


def test_a_template_that_hides_its_section_is_refused_with_what_to_set() -> None:
    family = next(f for f in FAMILIES if f.name == "r1-distill")
    tokenizer = train_tokenizer(family.tokens(), family.template.replace("<think>\n{% endif", "{% endif"), family.eos)
    with pytest.raises(InputError, match=r"speaks of a reasoning section \(</think>\)(.|\n)*set prompt.opening"):
        select_format("auto", tokenizer)
    settings = PromptSettings(opening="<think>\n", closing="</think>")
    assert select_format("auto", tokenizer, settings).render(None, "Q", "I").text.endswith("<think>\nI")
    assert select_format("chat", tokenizer).render(None, "Q", "I").text.endswith("<｜Assistant｜>I")


def test_a_generation_prompt_without_a_known_closing_is_refused_with_what_to_set() -> None:
    template = QWEN3.template.replace("<think>", "<|deliberate|>").replace("</think>", "<|decided|>")
    template = template.replace("{% if loop.last or r %}", "{% if false %}")
    template = template.replace(
        "{% if add_generation_prompt %}<|im_start|>assistant\n",
        "{% if add_generation_prompt %}<|im_start|>assistant\n<|deliberate|>",
    )
    tokenizer = train_tokenizer(["<pad>", "<|im_start|>", "<|im_end|>", "<|deliberate|>"], template, "<|im_end|>")
    with pytest.raises(InputError, match=r"set prompt\.closing"):
        select_format("auto", tokenizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"enable_thinkin": True}, "not read by the chat template; did you mean 'enable_thinking'"),
        ({"messages": []}, "not the template's to read"),
        ({"date": "yesterday"}, "valid: a day such as 2025-08-05"),
        ({"date": "2025-01-01"}, "date is not read"),
    ],
)
def test_template_arguments_that_would_do_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_format("auto", tokenizer_of(QWEN3), PromptSettings(template_args=arguments))


def test_template_arguments_and_date_reach_the_template() -> None:
    family = next(f for f in FAMILIES if f.name == "gpt-oss")
    settings = PromptSettings(template_args={"reasoning_effort": "high", "date": "2026-02-03"})
    text = select_format("auto", tokenizer_of(family), settings).render(None, "Q", "").text
    assert "Today is 2026-02-03. Effort: high" in text


def test_a_system_message_that_switches_reasoning_off_is_seen() -> None:
    template = "{% set off = messages[0].role == 'system' and '/no_think' in messages[0].content %}" + QWEN3.template
    template = template.replace("enable_thinking is defined and enable_thinking is false", "off")
    tokenizer = train_tokenizer(QWEN3.tokens(), template, QWEN3.eos)
    assert select_format("auto", tokenizer).name == "think"
    assert select_format("auto", tokenizer, system="Be brief. /no_think").name == "chat"


def test_every_named_template_of_a_tokenizer_counts_for_the_stops() -> None:
    family = next(f for f in FAMILIES if f.name == "llama3")
    tools = family.template.replace("<|eot_id|>", "<|eom_id|>")
    tokens = [*family.tokens(), "<|eom_id|>"]
    tokenizer = train_tokenizer(tokens, None, family.eos)
    tokenizer.chat_template = {"default": family.template, "tool_use": tools}
    ends = {tokenizer.convert_ids_to_tokens(i) for i in select_format("auto", tokenizer).stop_token_ids}
    assert ends == {"<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"}
    tokenizer.chat_template = {"rag": family.template, "tool_use": tools}
    with pytest.raises(InputError, match="templates named rag, tool_use, but none named default"):
        select_format("auto", tokenizer)
