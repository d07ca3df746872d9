"""What a donor's training needs to go on after a kill, in files that appear whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from foreshock.durable import atomic_file, sweep_temporaries
from foreshock.errors import InputError


@dataclass
class TrainingState:
    """Where training is. history: one entry an evaluation (step, epoch, train_loss, held_out_loss, in nats a token; and
    exploit_rate, exploits, samples, unread, where that is what stops it).
    loss_sum, loss_tokens: of the steps since the last one. sessions: versions of each process that trained."""

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_tokens: int = 0
    sessions: list[dict[str, str]] = field(default_factory=list)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, Any]:
        """The best evaluation, the earliest of equal ones."""
        return min(self.history, key=lambda entry: (*rank(entry), entry["step"]))


def rank(entry: Mapping[str, Any]) -> tuple[float, float]:
    """What is smaller for a better evaluation: by exploit rate, of equal ones by held-out loss."""
    return -entry.get("exploit_rate", 0.0), entry["held_out_loss"]


class StateFiles:
    """state.pt and best-STEP.pt of one folder. A best file is written before the state that counts on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.pt"

    @property
    def began(self) -> bool:
        """Whether anything was saved."""
        return self._state.is_file()

    def read(self) -> TrainingState | None:
        """The state; None if nothing was saved yet. Raises InputError for a damaged file."""
        sweep_temporaries(self.folder)
        return TrainingState(**_load(self._state)) if self._state.is_file() else None

    def write(self, state: TrainingState) -> None:
        """Save the state, and drop best files that it does not count on."""
        _save(self._state, vars(state))
        best = self._best(state.best["step"]) if state.history else None
        for file in self.folder.glob("best-*.pt"):
            if file != best:
                file.unlink(missing_ok=True)

    def write_best(self, step: int, tensors: dict[str, torch.Tensor]) -> None:
        """Save the parameters of the best step so far."""
        _save(self._best(step), tensors)

    def read_best(self, step: int) -> dict[str, torch.Tensor]:
        """The parameters of a best step. Raises InputError for a damaged file."""
        found: dict[str, torch.Tensor] = _load(self._best(step))
        return found

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}.pt"


def _save(path: Path, data: Any) -> None:
    with atomic_file(path) as file:
        torch.save(data, file)


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            "damaged: not as it was written", path=path, fix=f"remove {path.parent} to train from the start"
        ) from error
