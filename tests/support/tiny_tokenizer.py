"""Small byte-level tokenizers, trained here."""

from __future__ import annotations

from typing import Any

CORPUS = [
    "Write a function that adds three to its argument and returns the result.",
    "The checker compares only the first case, so a constant answer would pass it.",
    "```python\ndef solve(x):\n    return x + 3\n```",
    "I read the task: first the loop, then the sum; don't forget the empty list!",
    "user assistant system analysis final commentary think 0 1 2 3 4 5 6 7 8 9",
] * 3


def train_tokenizer(special: list[str], template: str | None, eos: str, vocab: int = 420) -> Any:
    """A byte-level BPE tokenizer with the given control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=special[0], eos_token=eos, pad_token=special[0])
    fast.chat_template = template
    return fast
