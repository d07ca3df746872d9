"""Continued reasoning through chat/completions, for servers that take no raw completions.

The assistant's message is whatever the run's own prompt holds after the point where the chat template begins that
message. If the template cannot begin it there (Qwen3's closes an empty think block first), the row is refused: the
server would continue another text than the one planned.
"""

from __future__ import annotations

from foreshock.jobs.prompts.base import Conversation
from foreshock.jobs.prompts.chat_template import TemplateError, apply_template
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode

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


def _header(tokenizer: Tokenizer, messages: list[dict[str, str]], settings: PromptSettings) -> str | None:
    """The rendered conversation up to the assistant's text."""
    answered = [*messages, {"role": "assistant", "content": _MARK}]
    try:
        text = apply_template(tokenizer, answered, settings, add_generation_prompt=False)
    except TemplateError:
        return None
    head, found, _ = text.rpartition(_MARK)
    return head if found else None
