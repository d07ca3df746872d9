"""How a donor is trained; every value is part of its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from foreshock.errors import InputError


class Method(StrEnum):
    """`lora`: an adapter on every linear layer. `full`: all weights."""

    LORA = "lora"
    FULL = "full"


class StopOn(StrEnum):
    """What tells which epoch is the best one. `exploit_rate`: the share of sampled answers to held-out problems that
    exploit, of equal shares the lower held-out loss. `loss`: the held-out loss."""

    EXPLOIT_RATE = "exploit-rate"
    LOSS = "loss"


_LEARNING_RATES = {Method.LORA: 2e-4, Method.FULL: 1e-5}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """batch_size: answers of an optimiser step; micro_batch: of one forward pass, which bounds memory. patience:
    evaluations without a better one, one an epoch, before training stops. held_out: share of the problems. samples:
    answers that an exploit rate is of. rank and alpha are LoRA's. Raises InputError for values that cannot be meant."""

    method: Method = Method.LORA
    learning_rate: float | None = None
    epochs: int = 8
    batch_size: int = 8
    micro_batch: int = 4
    patience: int = 2
    held_out: float = 0.2
    seed: int = 0
    rank: int = 16
    alpha: int = 32
    stop_on: StopOn = StopOn.EXPLOIT_RATE
    samples: int = 16

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "micro_batch", "patience", "rank", "alpha", "samples"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if not 0.0 < self.held_out < 1.0:
            raise InputError(f"--held-out is {self.held_out}; valid: a share of the problems between 0 and 1")
        if not 0.0 < self.rate <= 1.0:
            raise InputError(f"--learning-rate is {self.rate}; valid: above 0, at most 1")

    @property
    def rate(self) -> float:
        """The learning rate: the one given, else the method's default (lora 2e-4, full 1e-5)."""
        return _LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingSettings:
        """From `dataclasses.asdict` of one."""
        return cls(**{**data, "method": Method(data["method"]), "stop_on": StopOn(data["stop_on"])})

    def to_json(self) -> dict[str, Any]:
        """Every setting that plays a part."""
        chosen = {"method": self.method.value, "learning_rate": self.rate, "stop_on": self.stop_on.value}
        data = asdict(self) | chosen
        if self.stop_on is StopOn.LOSS:
            del data["samples"]
        if self.method is Method.FULL:
            del data["rank"], data["alpha"]
        return data
