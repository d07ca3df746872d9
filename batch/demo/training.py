"""The demo model's training loop: a plain AdamW loop over encoded items, on CPU, the same numbers every time.

Only the assistant's tokens are trained on. Prompts are random names and numbers, which nothing could predict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from foreshock.batch.demo.encoding import batches
from foreshock.batch.demo.schedule import BATCH, Schedule
from foreshock.batch.donor.encoded import Encoded, padded


def new_model(tokenizer: Any, seed: int) -> Any:
    """An untrained `LlamaForCausalLM` of about 0.6 million parameters, input and output embeddings shared."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            # 0.08 where the default 0.02 is for wide models: it decides whether this few steps are enough
            initializer_range=0.08,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train(
    model: Any,
    encoded: Sequence[Encoded],
    schedule: Schedule,
    seed: int,
    after_step: Callable[[int], None],
) -> None:
    """Train in place. `after_step(n)` is called after optimiser step n = 1..steps.

    Raises ValueError when `encoded` does not fill one batch, FloatingPointError when the loss is not finite.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    source = _endless(encoded, seed)
    for step in range(schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr(step)
        ids, labels = padded(next(source))
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        wanted = labels[:, 1:] != -100  # (B, T-1): logits of the prompt and the padding would go unused
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[:, 1:][wanted])
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        after_step(step + 1)


def _endless(encoded: Sequence[Encoded], seed: int) -> Iterator[list[Encoded]]:
    """Epoch after epoch, reshuffled."""
    rng = random.Random(seed)
    if len(encoded) < BATCH:
        raise ValueError(f"{len(encoded)} items do not fill one batch of {BATCH}")
    while True:
        order = list(encoded)
        rng.shuffle(order)
        yield from batches(order, BATCH, rng)
