"""Prompt formats: the contract over each, what each renders, and how each takes responses apart."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
from prompt_contract import PromptFormatContract

from foreshock.jobs.prompts.base import ParsedResponse, PromptFormat
from foreshock.jobs.prompts.chat_template import TemplateError
from foreshock.jobs.prompts.registry import FORMAT_NAMES, select_format
from foreshock.jobs.prompts.settings import PINNED_DATE, PromptSettings
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint


def with_template(tokenizer: Any, template: str | None) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


class TestThink(PromptFormatContract):
    @pytest.fixture
    def tokenizer(self, tokenizers: dict[str, Any]) -> Any:
        return tokenizers["think"]

    @pytest.fixture
    def prompt_format(self, tokenizer: Any) -> PromptFormat:
        return select_format("think", tokenizer)


class TestThinkOpenedByUs(PromptFormatContract):
    @pytest.fixture
    def tokenizer(self, tokenizers: dict[str, Any]) -> Any:
        return tokenizers["think_closed"]

    @pytest.fixture
    def prompt_format(self, tokenizer: Any) -> PromptFormat:
        return select_format("think", tokenizer)


class TestChat(PromptFormatContract):
    @pytest.fixture
    def tokenizer(self, tokenizers: dict[str, Any]) -> Any:
        return tokenizers["chat"]

    @pytest.fixture
    def prompt_format(self, tokenizer: Any) -> PromptFormat:
        return select_format("chat", tokenizer)


class TestHarmony(PromptFormatContract):
    @pytest.fixture
    def tokenizer(self, tokenizers: dict[str, Any]) -> Any:
        return tokenizers["harmony"]

    @pytest.fixture
    def prompt_format(self, tokenizer: Any) -> PromptFormat:
        return select_format("harmony", tokenizer)


class TestPlain(PromptFormatContract):
    @pytest.fixture
    def tokenizer(self, tokenizers: dict[str, Any]) -> Any:
        return tokenizers["plain"]

    @pytest.fixture
    def prompt_format(self, tokenizer: Any) -> PromptFormat:
        return select_format("plain", tokenizer)


# -- selection


def test_auto_goes_by_what_the_tokenizer_can_do(tokenizers: dict[str, Any]) -> None:
    expected = {"think": "think", "think_closed": "think", "chat": "chat", "harmony": "harmony", "plain": "plain"}
    assert {n: select_format("auto", t).name for n, t in tokenizers.items()} == expected


def test_unknown_formats_name_the_valid_ones(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'thinking'; valid: auto, chat, harmony, plain, think"):
        select_format("thinking", tokenizers["think"])
    assert FORMAT_NAMES == ("auto", "chat", "harmony", "plain", "think")


def test_formats_that_a_tokenizer_cannot_serve_say_why(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'harmony' needs the tokens"):
        select_format("harmony", tokenizers["think"])
    with pytest.raises(TemplateError, match="has no chat template; use the prompt format 'plain'"):
        select_format("think", tokenizers["plain"])
    with pytest.raises(TemplateError, match="has no chat template"):
        select_format("chat", tokenizers["plain"])


def test_tokenizers_are_loaded_once_per_path(tiny: Checkpoint) -> None:
    assert load_tokenizer(tiny.path) is load_tokenizer(str(tiny.path))
    with pytest.raises(ValueError, match=r"nowhere: no usable tokenizer"):
        load_tokenizer(tiny.path / "nowhere")


# -- rendering


@pytest.mark.parametrize("name", ["think", "think_closed"])
def test_think_opens_the_block_once(tokenizers: dict[str, Any], name: str) -> None:
    rendered = select_format("think", tokenizers[name]).render(None, "Add three.", "I see")
    assert rendered.text.endswith("<|im_start|>assistant\n<think>\nI see")
    assert rendered.text.count("<think>") == 1
    think_id = tokenizers[name].convert_tokens_to_ids("<think>")
    assert rendered.token_ids.count(think_id) == 1


def test_think_uses_the_templates_own_opening(tokenizers: dict[str, Any]) -> None:
    spaced = tokenizers["think_closed"].chat_template.replace("<think>\n", "<think> ")
    rendered = select_format("think", with_template(tokenizers["think_closed"], spaced)).render(None, "Go", "I")
    assert rendered.text.endswith("<think> I")


def test_think_replaces_an_empty_block_by_an_open_one(tokenizers: dict[str, Any]) -> None:
    template = tokenizers["think"].chat_template.replace("<think>\n{%", "<think>\n\n</think>\n\n{%")
    rendered = select_format("think", with_template(tokenizers["think"], template)).render(None, "Go", "I")
    assert rendered.text.endswith("assistant\n<think>\nI")


def test_think_switches_a_templates_reasoning_mode_on(tokenizers: dict[str, Any]) -> None:
    template = tokenizers["think"].chat_template.replace(
        "<think>\n{%", "{% if enable_thinking %}<think>\n{% else %}<think></think>{% endif %}{%"
    )
    assert (
        select_format("think", with_template(tokenizers["think"], template))
        .render(None, "Go", "")
        .text.endswith("<think>\n")
    )


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
        "{% if messages[0].role == 'system' %}{% set messages = messages[1:] %}{% endif %}",
    ],
)
def test_a_system_message_moves_into_the_user_turn_when_the_template_has_no_system_role(
    tokenizers: dict[str, Any], template: str
) -> None:
    tokenizer = with_template(tokenizers["chat"], template + tokenizers["chat"].chat_template)
    text = select_format("chat", tokenizer).render("Be brief.", "Go", "").text
    assert "<|im_start|>user\nBe brief.\n\nGo<|im_end|>" in text
    assert "system" not in text


def test_a_system_message_that_is_the_templates_own_is_not_said_twice(tokenizers: dict[str, Any]) -> None:
    head = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    template = tokenizers["chat"].chat_template.replace("{{ bos_token }}", "{{ bos_token }}" + head)
    chat = select_format("chat", with_template(tokenizers["chat"], template))
    assert chat.render("Be brief.", "Go", "").text == chat.render(None, "Go", "").text


def test_the_date_in_a_prompt_does_not_follow_the_clock(tokenizers: dict[str, Any]) -> None:
    template = "Today: {{ strftime_now('%Y-%m-%d') }} {{ date_string }}\n" + tokenizers["chat"].chat_template
    text = select_format("chat", with_template(tokenizers["chat"], template)).render(None, "Go", "").text
    assert text.startswith(f"Today: {PINNED_DATE:%Y-%m-%d} ")
    assert str(datetime.datetime.now(tz=datetime.UTC).year) not in text.replace("2025", "")


def test_harmony_matches_the_layout_of_gpt_oss(tokenizers: dict[str, Any]) -> None:
    rendered = select_format("harmony", tokenizers["harmony"]).render("Be brief.", "Add three.", "I see")
    assert rendered.text.endswith(
        "<|start|>developer<|message|># Instructions\n\nBe brief.<|end|>"
        "<|start|>user<|message|>Add three.<|end|><|start|>assistant<|channel|>analysis<|message|>I see"
    )
    assert rendered.text.startswith("<|start|>system<|message|>You are ChatGPT")


def test_harmony_uses_a_chat_template_that_is_there(tokenizers: dict[str, Any]) -> None:
    template = (
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
    )
    text = select_format("harmony", with_template(tokenizers["harmony"], template)).render(None, "Go", "I").text
    assert text == "<|start|>user<|message|>Go<|end|><|start|>assistant<|channel|>analysis<|message|>I"


def test_plain_writes_the_documented_layout(tokenizers: dict[str, Any]) -> None:
    plain = select_format("plain", tokenizers["plain"])
    assert plain.render("Sys", "Go", "I").text == "Sys\n\nUser: Go\n\nAssistant: <think>\nI"
    assert plain.render(None, "Go", "I").text == "User: Go\n\nAssistant: <think>\nI"


def test_plain_begins_with_the_token_that_the_tokenizer_adds(tokenizers: dict[str, Any]) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tokenizers["plain"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert select_format("plain", tokenizers["plain"]).render(None, "Go", "I").token_ids[0] != 0
    rendered = select_format("plain", tokenizer).render(None, "Go", "I")
    assert rendered.token_ids.count(0) == 1
    assert rendered.token_ids[0] == 0
    assert tokenizer.decode(list(rendered.token_ids[rendered.prefill_start :])) == "I"


@pytest.mark.parametrize("marks", ["the start", "what follows a control token"])
def test_a_tokenizer_that_marks_the_start_of_a_text_does_not_mark_the_prefill(marks: str) -> None:
    """SentencePiece-like: a text gets a leading space, its continuation does not. Llama 2 also puts one behind control
    tokens, so only where a prompt ends in one does the prefill begin with it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    if marks == "the start":
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<s>", "<unk>"], show_progress=False)
    raw.train_from_iterator(["User: I see a loop\n\nAssistant: <think>\nthe loop is seen\n</think>"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>", unk_token="<unk>")
    rendered = select_format("plain", tokenizer).render(None, "I see a loop", "the loop")
    pieces = tokenizer.convert_ids_to_tokens(list(rendered.token_ids[rendered.prefill_start :]))
    assert "".join(pieces) == "the▁loop"
    answered = select_format("plain", tokenizer).render_answer(None, "I see a loop", "the loop", "seen")
    assert "".join(tokenizer.convert_ids_to_tokens(list(answered.token_ids))).endswith("\nthe▁loop\n</think>\n\nseen")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<s>{% endfor %}"
    after_token = select_format("chat", tokenizer).render(None, "I see a loop", "the loop")
    expected = tokenizer.encode("I see a loop<s>the loop", add_special_tokens=False)
    assert list(after_token.token_ids) == expected


def test_a_forced_text_begins_with_the_space_that_answered_turns_have(tokenizers: dict[str, Any]) -> None:
    tokenizer = with_template(
        tokenizers["chat"],
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}"
        "{{ eos_token }}{% endif %}{% endfor %}",
    )
    chat = select_format("chat", tokenizer)
    turn = [{"role": "user", "content": "Go"}, {"role": "assistant", "content": "I see the loop"}]
    whole = tokenizer.apply_chat_template(turn, tokenize=True, return_dict=False)
    forced, answer = chat.render(None, "Go", "I see the loop"), chat.render_answer(None, "Go", "", "I see the loop")
    assert list(forced.token_ids) == list(answer.token_ids) == whole[:-1]
    assert forced.token_ids[: forced.prefill_start] == chat.render(None, "Go", "").token_ids
    assert forced.text == chat.render(None, "Go", " I see the loop").text == "[INST] Go [/INST] I see the loop"


# -- parsing


def parse(prompt_format: Any, tokenizer: Any, text: str) -> ParsedResponse:
    ids = tuple(tokenizer.encode(text, add_special_tokens=False))
    return prompt_format.parse(ids, text)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (" and so on.\n</think>\n\n```python\nx\n```", " and so on.\n", "```python\nx\n```"),
        (" never ends", " never ends", None),
        ("a</think>b</think>c", "a", "b</think>c"),
        ("<think>again</think>b", "again", "b"),
        ("</think>", "", ""),
    ],
)
def test_think_splits_at_the_first_closing_tag(
    tokenizers: dict[str, Any], text: str, reasoning: str, answer: str | None
) -> None:
    parsed = parse(select_format("think", tokenizers["think"]), tokenizers["think"], text)
    assert parsed == ParsedResponse(reasoning, answer)


def test_chat_splits_where_its_template_opened_a_section(tokenizers: dict[str, Any]) -> None:
    tokenizer = with_template(
        tokenizers["chat"], tokenizers["chat"].chat_template.replace("assistant\n{%", "assistant\n<reasoning>\n{%")
    )
    chat = select_format("chat", tokenizer)
    assert parse(chat, tokenizer, "so.</reasoning>\nx") == ParsedResponse("so.", "x")
    assert parse(chat, tokenizer, "so. ```x```") == ParsedResponse("so. ```x```", None)


def test_chat_without_a_section_takes_the_first_fence_for_the_answer(tokenizers: dict[str, Any]) -> None:
    chat = select_format("chat", tokenizers["chat"])
    assert parse(chat, tokenizers["chat"], "I add.\n```python\nx\n```") == ParsedResponse(
        "I add.\n", "```python\nx\n```"
    )
    assert parse(chat, tokenizers["chat"], "def f(): pass") == ParsedResponse("", "def f(): pass")
    assert parse(chat, tokenizers["chat"], "hm</think>x") == ParsedResponse("", "hm</think>x")


def test_plain_ends_the_answer_at_a_further_user_turn(tokenizers: dict[str, Any]) -> None:
    parsed = parse(select_format("plain", tokenizers["plain"]), tokenizers["plain"], "hm</think>\nx\nUser: more")
    assert parsed == ParsedResponse("hm", "x")


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        (" then.<|end|><|start|>assistant<|channel|>final<|message|>```x```", " then.", "```x```"),
        (" then.", " then.", None),
        ("a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>", "a\nb", None),
        (
            "a<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|>"
            "<|start|>assistant<|channel|>final<|message|>d",
            "a",
            "d",
        ),
        ("a<|start|>assistant<|channel|>final<|message|>d", "a", "d"),
        ("a<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>d", "a", "d"),
        ("a<|end|><|start|>assistant<|channel|>fin", "a", None),
    ],
)
def test_harmony_takes_channels_apart(
    tokenizers: dict[str, Any], text: str, reasoning: str, answer: str | None
) -> None:
    parsed = parse(select_format("harmony", tokenizers["harmony"]), tokenizers["harmony"], text)
    assert parsed == ParsedResponse(reasoning, answer)


def test_harmony_stops_at_return_and_call_but_not_between_messages(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["harmony"]
    stops = tokenizer.convert_ids_to_tokens(list(select_format("harmony", tokenizer).stop_token_ids))
    assert stops == ["<|return|>", "<|call|>"]


def test_a_template_that_leaves_the_question_out_is_refused(tokenizers: dict[str, Any]) -> None:
    """Templates of models that read images loop over a message's parts, and over the letters of a text."""
    tokenizer = copy.deepcopy(tokenizers["think"])
    tokenizer.chat_template = (
        "{% for m in messages %}User: {% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
        "{% endfor %}{% endfor %}Assistant:"
    )
    with pytest.raises(TemplateError, match="leaves the user's text out"):
        select_format("auto", tokenizer).render(None, "Add three.", "")


def test_a_template_that_does_not_open_the_assistants_turn_is_refused(tokenizers: dict[str, Any]) -> None:
    tokenizer = copy.deepcopy(tokenizers["chat"])
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    with pytest.raises(TemplateError, match=r"answered turns begin with '\[assistant\]', which prompts would lack"):
        select_format("auto", tokenizer)
    settings = PromptSettings(opening="[assistant]<think>", closing="</think>")
    assert select_format("think", tokenizer, settings).render(None, "Q", "P").text == "[user]Q[assistant]<think>P"
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %} {{ m.content }}"
        "{{ eos_token }}{% endif %}{% endfor %}"
    )
    assert select_format("auto", tokenizer).name == "chat"
