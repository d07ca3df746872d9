"""A key/value cache whose rows have different lengths.

Row i's token t always lies in slot t, padding is on the right, and new tokens are written at each row's own position.
Nothing about a row depends on how long its neighbours' prompts are (left padding shifts every slot), and memory is
written in place instead of being concatenated at every step.
"""

from __future__ import annotations

import torch

from foreshock.jobs.engines.model_classes import Cache, CacheLayerMixin


class RaggedLayer(CacheLayerMixin):
    """Keys and values of one layer, [rows, heads, slots, head_dim], in `states`."""

    is_sliding = False

    def __init__(self, owner: RaggedCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self._owner = owner
        self.states: list[torch.Tensor] = []

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the slots. Zero, not uninitialised: a masked slot has weight 0, and 0 x NaN is NaN."""
        rows, slots = self._owner.n_rows, self._owner.slots
        for new in (key_states, value_states):
            self.states.append(new.new_zeros((rows, new.shape[1], slots, new.shape[3])))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A prompt pass stores its states and attends to them alone; a step writes one token a row."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner, device = self._owner, key_states.device
        if owner.visible == 0:
            targets, origins = owner.targets.to(device), owner.origins.to(device)
            for old, new in zip(self.states, (key_states, value_states), strict=True):
                old[targets, :, : new.shape[2]] = new[origins]
            return key_states, value_states
        rows, positions = owner.rows.to(device), owner.positions.to(device)
        for old, new in zip(self.states, (key_states, value_states), strict=True):
            old[rows, :, positions] = new[:, :, 0]
        keys, values = (state[:, :, : owner.visible] for state in self.states)
        return keys, values

    def remap(self, index: torch.Tensor, slots: int) -> None:
        """Make row i what row `index[i]` was, with room for `slots` slots; new slots are zero."""
        for i, old in enumerate(self.states):
            here = index.to(old.device)
            if slots == old.shape[2]:
                self.states[i] = old.index_select(0, here)
            else:
                new = old.new_zeros((len(index), old.shape[1], slots, old.shape[3]))
                new[:, :, : old.shape[2]] = old.index_select(0, here)
                self.states[i] = new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(key length, offset) of a prompt pass; later passes bring their own mask."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """0 during prompt passes, then the visible slots."""
        return self._owner.visible

    def get_max_length(self) -> int:
        """No limit: slots are added on demand."""
        return -1


class RaggedCache(Cache):
    """One RaggedLayer per model layer, and the row positions that they share."""

    def __init__(self, n_layers: int, n_rows: int, slots: int, device: torch.device) -> None:
        self.n_rows = n_rows
        self.slots = slots
        self.visible = 0
        self.rows = torch.arange(n_rows, device=device)
        self.positions = self.targets = self.origins = self.rows
        self.ragged = [RaggedLayer(self) for _ in range(n_layers)]
        super().__init__(layers=list(self.ragged))

    def fill(self, targets: torch.Tensor, origins: torch.Tensor) -> None:
        """Announce a prompt pass: cache row `targets[k]` takes the states of the pass's row `origins[k]`."""
        self.targets, self.origins = targets, origins

    def place(self, positions: torch.Tensor, visible: int) -> None:
        """Announce a step: row i writes slot `positions[i]`, and slots below `visible` are attended."""
        self.positions, self.visible = positions, visible

    def remap(self, index: torch.Tensor, slots: int) -> None:
        """Make row i what row `index[i]` was, with room for `slots` tokens."""
        for layer in self.ragged:
            layer.remap(index, slots)
        self.slots, self.n_rows = slots, len(index)
        self.rows = torch.arange(len(index), device=index.device)


def decode_mask(positions: torch.Tensor, visible: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [rows, 1, 1, visible]: slot s is seen by row i if positions[i] - window < s <= positions[i]."""
    slots = torch.arange(visible, device=positions.device)
    seen = slots[None, :] <= positions[:, None]
    if window is not None:
        seen &= slots[None, :] > positions[:, None] - window
    mask = torch.zeros(seen.shape, dtype=dtype, device=positions.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None, None, :]
