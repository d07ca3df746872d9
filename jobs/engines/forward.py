"""One model call that returns logits at chosen positions only.

Positions are chosen by a hook in front of the output embedding, not by multiplying hidden states with the embedding
ourselves, so that a model's own scaling or capping of logits is always applied. With a vocabulary of 200,000 the
logits of unneeded positions would be most of the memory.
"""

from __future__ import annotations

from typing import Any

import torch

from foreshock.jobs.engines.rope import DYNAMIC, forget_lengths, rope_switch
from foreshock.jobs.engines.shared_keys import keys_stay_shared

MIN_ROWS = 8
"""Rows of the smallest matrix product: fewer take another kernel, whose sums differ in the last bits."""


class LogitsModel:
    """A causal language model, its limits, and a count of its forward passes."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.calls = 0
        config = model.config.get_text_config()
        self.config = config
        self.vocab_size = int(model.get_input_embeddings().num_embeddings)
        self.n_layers = int(config.num_hidden_layers)
        room = getattr(config, "max_position_embeddings", None)
        self.switch = rope_switch(config)
        self.context_length = int(room) if isinstance(room, int) and room > 0 else None
        if self.switch is not None and self.switch.limit is not None:
            self.context_length = self.switch.limit
        self._select: tuple[torch.Tensor, torch.Tensor] | None = None
        head = model.get_output_embeddings()
        self._hook = head.register_forward_pre_hook(self._select_hidden) if head is not None else None

    @property
    def dtype(self) -> torch.dtype:
        """The weights' floating type."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def padded(self, n: int) -> int:
        """Length to which a prompt of `n` tokens is padded: coarser for longer ones, a function of `n` alone, and never
        so far that rotary frequencies change."""
        step = 16 if n <= 256 else 64 if n <= 1024 else 256
        width = -(-n // step) * step
        room = self.context_length
        if self.switch is not None and n <= self.switch.at:
            room = self.switch.at
        elif self.switch is not None and self.switch.kind == DYNAMIC:
            return n
        return width if room is None else max(n, min(width, room))

    def detach(self) -> None:
        """Take the hook off the model, which may go on to serve other weights."""
        if self._hook is not None:
            self._hook.remove()

    def prompt_logits(
        self,
        ids: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
        cache: Any = None,
    ) -> torch.Tensor:
        """Logits [n, vocab] at (rows[k], columns[k]) of a causal pass over right-padded `ids` [batch, length].

        Padding lies to the right of every token that is read, so causal attention needs no mask.
        """
        if self.switch is not None and self.switch.kind == DYNAMIC:
            forget_lengths(self.model, ids.device)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape[0], -1)
        n = len(rows)
        fill = torch.arange(max(n, MIN_ROWS), device=rows.device).clamp_(max=n - 1)
        rows, columns = rows[fill], columns[fill]
        self._select = (rows, columns)
        try:
            out = self._call(input_ids=ids, position_ids=positions, past_key_values=cache)
        finally:
            self._select = None
        logits: torch.Tensor = out.logits
        if self._hook is None:
            return logits[rows, columns][:n]
        return logits[0, :n]

    def step_logits(self, tokens: torch.Tensor, positions: torch.Tensor, mask: Any, cache: Any) -> torch.Tensor:
        """Logits [rows, vocab] after one more token a row, at `positions`, attending as `mask` says."""
        with keys_stay_shared():
            out = self._call(
                input_ids=tokens[:, None],
                position_ids=positions[:, None],
                attention_mask=mask,
                past_key_values=cache,
            )
        logits: torch.Tensor = out.logits
        return logits[:, -1]

    def _call(self, **inputs: Any) -> Any:
        self.calls += 1
        cache = inputs.pop("past_key_values")
        if cache is None:
            return self.model(**inputs, use_cache=False)
        return self.model(**inputs, past_key_values=cache, use_cache=True)

    def _select_hidden(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self._select is None:
            return None
        rows, columns = (index.to(args[0].device) for index in self._select)
        return (args[0][rows, columns][None], *args[1:])
