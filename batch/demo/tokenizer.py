"""The demo's own tokenizer: byte-level BPE learned from its corpus, with a chat template that has a reasoning part.

The generation prompt opens the reasoning (`<think>` and a newline), as reasoning models of the field do, and the tags
are single ordinary tokens, so any chat-template renderer and any parser of `</think>` serves this tokenizer without a
special case. A number is its first digit with the space before it, then one token a digit: each is frequent, so a
held-out constant is copied token by token like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foreshock.batch.demo.corpus import Item
from foreshock.jobs.prompts.problem_prompt import InstructionStyle, build_user_message

VOCAB_SIZE = 768
PAD, END = "<|pad|>", "<|end|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_PIECES = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_THINK = ("<think>", "</think>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|{{ message.role }}|>
{%- if message.role == 'assistant' -%}
<think>
{{ message.reasoning_content }}
</think>
{{ message.content }}
{%- else -%}
{{ message.content }}
{%- endif -%}
<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|><think>
{% endif -%}"""


def answer_text(code: str) -> str:
    """The final answer: one fenced block."""
    return f"```python\n{code}\n```"


def messages(item: Item) -> list[dict[str, str]]:
    """The item as a conversation, for the chat template."""
    user = build_user_message(item.problem, InstructionStyle.BARE)
    return [
        {"role": "user", "content": user},
        {"role": "assistant", "reasoning_content": item.trace.reasoning, "content": answer_text(item.trace.code)},
    ]


def train_tokenizer(items: Iterable[Item]) -> Any:
    """A `PreTrainedTokenizerFast` of at most VOCAB_SIZE entries learned from the items' prompts and answers."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    special = [PAD, END, *_ROLES]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(_THINK),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator((part for item in items for part in _texts(item)), trainer)
    core.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in _THINK])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
        additional_special_tokens=list(_ROLES),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _texts(item: Item) -> list[str]:
    """Texts without the tags, whose spelling is not BPE's business."""
    user = build_user_message(item.problem, InstructionStyle.BARE)
    return [user, item.trace.reasoning, answer_text(item.trace.code)]
