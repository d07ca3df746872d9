"""Harmony rendering and parsing against the reference implementation, with gpt-oss's real vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from foreshock.jobs.prompts.base import ParsedResponse, PromptFormat
from foreshock.jobs.prompts.harmony import REQUIRED_TOKENS
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.settings import PINNED_DATE

oh = pytest.importorskip("openai_harmony", reason="oss-harmony is not installed")


class ReferenceTokenizer:
    """The part of a transformers tokenizer that the format uses, over the reference's own encoding."""

    chat_template = None
    name_or_path = "reference"
    unk_token = unk_token_id = None
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012 - no anchor: this encoding marks no starts

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding
        self._ids = {t: encoding.encode(t, allowed_special="all")[0] for t in (*REQUIRED_TOKENS, "<|call|>")}
        self.all_special_ids = list(self._ids.values())
        self.eos_token_id = self._ids["<|return|>"]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self._encoding.encode(text, allowed_special="all"))

    def decode(self, ids: list[int], **options: Any) -> str:
        return str(self._encoding.decode(ids))

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self._ids.get(token)

    def convert_ids_to_tokens(self, number: int) -> str:
        return str(self._encoding.decode([number]))


@pytest.fixture(scope="module")
def encoding() -> Any:
    try:
        return oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)
    except oh.HarmonyError as error:
        pytest.skip(f"the reference's vocabulary is not at hand: {error}")


@pytest.fixture(scope="module")
def harmony(encoding: Any) -> PromptFormat:
    return select_format("harmony", ReferenceTokenizer(encoding))


@pytest.mark.parametrize("system", [None, "Answer in Python."])
def test_prompts_are_the_references_token_for_token(encoding: Any, harmony: PromptFormat, system: str | None) -> None:
    content = oh.SystemContent.new().with_conversation_start_date(f"{PINNED_DATE:%Y-%m-%d}")
    messages = [oh.Message.from_role_and_content(oh.Role.SYSTEM, content)]
    if system:
        developer = oh.DeveloperContent.new().with_instructions(system)
        messages.append(oh.Message.from_role_and_content(oh.Role.DEVELOPER, developer))
    messages.append(oh.Message.from_role_and_content(oh.Role.USER, "Add three to x."))
    expected = encoding.render_conversation_for_completion(oh.Conversation.from_messages(messages), oh.Role.ASSISTANT)
    opening = encoding.encode("<|channel|>analysis<|message|>", allowed_special="all")
    rendered = harmony.render(system, "Add three to x.", "I read the task")
    assert encoding.decode(list(rendered.token_ids[: rendered.prefill_start])) == encoding.decode([*expected, *opening])
    assert list(rendered.token_ids[: rendered.prefill_start]) == [*expected, *opening]
    assert list(rendered.token_ids[rendered.prefill_start :]) == encoding.encode("I read the task")


def test_responses_are_taken_apart_as_the_reference_does(encoding: Any, harmony: PromptFormat) -> None:
    text = (
        " and the checker.<|end|><|start|>assistant<|channel|>analysis<|message|>More.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>```python\ndef f(x):\n    return x + 3\n```"
    )
    ids = encoding.encode(text, allowed_special="all")
    opening = encoding.encode("<|channel|>analysis<|message|>", allowed_special="all")
    reference = encoding.parse_messages_from_completion_tokens(
        [*opening, *ids, *encoding.encode("<|return|>", allowed_special="all")], oh.Role.ASSISTANT
    )
    by_channel: dict[str, list[str]] = {}
    for message in reference:
        by_channel.setdefault(str(message.channel), []).append(message.content[0].text)
    parsed = harmony.parse(tuple(ids), text)
    assert parsed == ParsedResponse("\n".join(by_channel["analysis"]), by_channel["final"][-1])
