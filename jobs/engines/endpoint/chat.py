"""Continued reasoning through chat/completions, for servers that take no raw completions.

The assistant's message is whatever the run's own prompt holds after the point where the chat template begins that
message. If the template cannot begin it there (Qwen3's closes an empty think block first), the row is refused: the
server would continue another text than the one planned.
"""

from __future__ import annotations

from foreshock.errors import InputError
from foreshock.jobs.engines.endpoint.protocol import CHAT, Question, prompt_fields
from foreshock.jobs.prompts.base import Conversation
from foreshock.jobs.prompts.chat_template import TemplateError, apply_template
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode, encode_prompt

_BEGUN = "One, two,"
_COUNT = "Count from one to ten."
_ASKED = {"role": "user", "content": _COUNT}
_MARK = "\u2063MESSAGE\u2063"


def continued_messages(
    tokenizer: Tokenizer, conversation: Conversation | None, token_ids: tuple[int, ...]
) -> list[dict[str, str]]:
    """Messages that a server's own template renders to `token_ids`. Raises ValueError saying why there are none."""
    if conversation is None:
        raise ValueError("the prompt comes without its conversation, which chat/completions needs")
    text = decode(tokenizer, token_ids)
    system, user = conversation.system, conversation.user
    variants = [[{"role": "system", "content": system}, {"role": "user", "content": user}]] if system else []
    variants.append([{"role": "user", "content": f"{system}\n\n{user}" if system else user}])
    for messages in variants:
        header = _header(tokenizer, messages, PromptSettings(template_args=conversation.template_args))
        if header is not None and text.startswith(header):
            return [*messages, {"role": "assistant", "content": text[len(header) :]}]
    raise ValueError(
        "the chat template does not begin an assistant's message where the run's prompt opens the reasoning, so "
        "chat/completions cannot continue it; use engine.options.mode: completions"
    )


def probe_question(tokenizer: Tokenizer, path: str) -> Question:
    """What a server is tried with: token ids, or in chat mode a message of ours that it is to continue, with the ids
    that the template makes of it. Raises InputError where the template begins no message, so that no row could be
    sent."""
    if path != CHAT:
        ids = encode_prompt(tokenizer, f"{_COUNT[:-1]}: {_BEGUN.lower()}") or (0, 1, 2)
        return Question(ids, prompt_fields(ids, None))
    header = _header(tokenizer, [_ASKED], PromptSettings())
    if header is None:
        raise InputError(
            "mode chat needs a chat template that begins an assistant's message, and this tokenizer has none",
            fix="use engine.options.mode: completions, or name the tokenizer with checkpoints.tokenizer",
        )
    return _continuing(encode_prompt(tokenizer, header + _BEGUN), _BEGUN)


def further_question(tokenizer: Tokenizer, asked: Question, token: int) -> Question | None:
    """The same question with one more token; None where its text in a message reads as other tokens."""
    ids = (*asked.ids, token)
    if asked.conversation is None:
        return Question(ids, prompt_fields(ids, None))
    header, text = _header(tokenizer, [_ASKED], PromptSettings()), decode(tokenizer, ids)
    if header is None or not text.startswith(header) or encode_prompt(tokenizer, text) != ids:
        return None
    return _continuing(ids, text[len(header) :])


def _continuing(ids: tuple[int, ...], begun: str) -> Question:
    conversation = Conversation(None, _COUNT, PromptSettings().arguments())
    messages = [_ASKED, {"role": "assistant", "content": begun}]
    return Question(ids, prompt_fields(ids, messages, conversation.template_args), conversation)


def _header(tokenizer: Tokenizer, messages: list[dict[str, str]], settings: PromptSettings) -> str | None:
    """The rendered conversation up to the assistant's text."""
    answered = [*messages, {"role": "assistant", "content": _MARK}]
    try:
        text = apply_template(tokenizer, answered, settings, add_generation_prompt=False)
    except TemplateError:
        return None
    head, found, _ = text.rpartition(_MARK)
    return head if found else None
