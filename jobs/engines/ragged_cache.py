"""A key/value cache whose rows have different lengths.

The one hard decision: row i's token t always lies in slot t, padding is on the right, and new tokens are written
at each row's own position. Nothing about a row depends on how long its neighbours' prompts are (left padding
shifts every slot), and memory is written in place instead of being concatenated at every step.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class RaggedLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, [rows, heads, slots, head_dim]."""

    is_sliding = False

    def __init__(self, owner: RaggedCache) -> None:
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Keep the prompt pass's states as they are; `expand` gives them their slots."""
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First call: the prompts, attended causally. Later calls: one token a row at the row's own position."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        rows, positions = self._owner.rows, self._owner.positions
        if rows.device != self.keys.device:  # a model spread over several devices
            rows, positions = rows.to(self.keys.device), positions.to(self.keys.device)
        self.keys[rows, :, positions] = key_states[:, :, 0]
        self.values[rows, :, positions] = value_states[:, :, 0]
        seen = self._owner.visible
        return self.keys[:, :, :seen], self.values[:, :, :seen]

    def map(self, slots: int, index: torch.Tensor) -> None:
        """Rebuild the layer from rows `index` with room for `slots` slots; new slots are zero.

        Zero, not uninitialised: a masked slot has weight 0, and 0 x NaN is NaN.
        """
        index = index.to(self.keys.device)
        for name in ("keys", "values"):
            old = getattr(self, name)
            if slots == old.shape[2]:
                setattr(self, name, old.index_select(0, index))
                continue
            new = old.new_zeros((len(index), old.shape[1], slots, old.shape[3]))
            width = min(slots, old.shape[2])
            new[:, :, :width] = old[:, :, :width].index_select(0, index)
            setattr(self, name, new)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(key length, offset) of the prompt pass; later passes bring their own mask."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """0 before the prompt pass, then the visible slots."""
        return self._owner.visible

    def get_max_length(self) -> int:
        """No limit: slots are added on demand."""
        return -1


class RaggedCache(Cache):  # type: ignore[misc]
    """One RaggedLayer per model layer, and the positions that they share."""

    def __init__(self, n_layers: int) -> None:
        self.rows = torch.empty(0, dtype=torch.long)
        self.positions = torch.empty(0, dtype=torch.long)
        self.visible = 0
        self.slots = 0
        super().__init__(layers=[RaggedLayer(self) for _ in range(n_layers)])

    def remap(self, index: torch.Tensor, slots: int) -> None:
        """Make row i what row `index[i]` was, with room for `slots` tokens."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.map(slots, index)
        self.slots = slots
        self.rows = torch.arange(len(index), device=index.device)

    def place(self, positions: torch.Tensor, visible: int) -> None:
        """Announce the next pass: row i writes slot `positions[i]`, and slots below `visible` are attended."""
        self.positions = positions
        self.visible = visible


def decode_mask(positions: torch.Tensor, visible: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [rows, 1, 1, visible]: slot s is seen by row i if positions[i] - window < s <= positions[i]."""
    slots = torch.arange(visible, device=positions.device)
    seen = slots[None, :] <= positions[:, None]
    if window is not None:
        seen &= slots[None, :] > positions[:, None] - window
    mask = torch.zeros(seen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None, :]
