"""The training loop: AdamW at a constant rate after a short warm-up, an evaluation once an epoch, early stopping.

Each step's batch and random numbers follow from the seed and the step's number alone, so that a resumed training is an
uninterrupted one.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foreshock.batch.donor.encoded import Encoded, padded
from foreshock.batch.donor.model import set_tensors, trained_tensors
from foreshock.batch.donor.rate import RateCount
from foreshock.batch.donor.settings import TrainingSettings
from foreshock.batch.donor.state import StateFiles, TrainingState, rank
from foreshock.errors import ForeshockError, StopRequestedError

_SAVE_EVERY_S = 600.0
_WARMUP_STEPS = 10


@dataclass(frozen=True, slots=True)
class LoopHooks:
    """on_step(done, most): optimiser steps. on_save(done, most): those that a kill no longer costs, first those that
    were there. on_evaluation: an entry of the history. stop: whether to end now."""

    on_step: Callable[[int, int], None] = lambda done, most: None
    on_save: Callable[[int, int], None] = lambda done, most: None
    on_evaluation: Callable[[dict[str, Any]], None] = lambda entry: None
    stop: Callable[[], bool] = lambda: False


def told(entry: dict[str, Any]) -> str:
    """An evaluation in a line."""
    trained = "" if entry["train_loss"] is None else f", training {entry['train_loss']:.4f}"
    line = f"epoch {entry['epoch']}, step {entry['step']}: held-out loss {entry['held_out_loss']:.4f}{trained}"
    if "exploit_rate" not in entry:
        return line
    unread = f" ({entry['unread']} without code to judge)" if entry["unread"] else ""
    return f"{line}, {entry['exploits']} of {entry['samples']} answers exploit{unread}"


def why_finished(history: Sequence[dict[str, Any]], settings: TrainingSettings) -> str | None:
    """Why training is over, None while it is not: no better evaluation for `patience` of them, or all epochs."""
    if not history:
        return None
    ranks = [rank(entry) for entry in history]
    if len(ranks) - 1 - ranks.index(min(ranks)) >= settings.patience:
        return "early stopping"
    return "all epochs" if history[-1]["epoch"] >= settings.epochs else None


def steps_per_epoch(n_examples: int, settings: TrainingSettings) -> int:
    """Optimiser steps that see every example once; the last may have fewer."""
    return -(-n_examples // settings.batch_size)


def batch_at(step: int, examples: Sequence[Encoded], settings: TrainingSettings) -> list[Encoded]:
    """The examples of optimiser step `step`, from 0: every epoch its own order."""
    epoch, place = divmod(step, steps_per_epoch(len(examples), settings))
    order = list(examples)
    random.Random(f"{settings.seed}/{epoch}").shuffle(order)
    return order[place * settings.batch_size : (place + 1) * settings.batch_size]


def by_length(examples: Sequence[Encoded]) -> list[Encoded]:
    """Examples of about one length beside each other, which pads least."""
    return sorted(examples, key=lambda item: (len(item.ids), item.ids))


def held_out_loss(model: Any, examples: Sequence[Encoded], micro_batch: int) -> float:
    """Mean loss per answer token, in nats."""
    model.eval()
    examples = by_length(examples)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(examples), micro_batch):
            loss, n = _summed_loss(model, examples[start : start + micro_batch])
            total, tokens = total + float(loss), tokens + n
    return total / tokens


def train_donor(
    model: Any,
    train: Sequence[Encoded],
    held_out: Sequence[Encoded],
    settings: TrainingSettings,
    files: StateFiles,
    state: TrainingState,
    hooks: LoopHooks,
    rate: Callable[[Any], RateCount] | None = None,
) -> TrainingState:
    """Train in place from `state` until `why_finished`; the best parameters lie in `files`. `rate`: the exploit rate of
    the model, where that is what stops it.

    Raises StopRequestedError, with the state saved, when `hooks.stop()` says so; ForeshockError when a loss is not
    finite.
    """
    optimiser = torch.optim.AdamW(
        list(trained_tensors(model).values()), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    if state.tensors:
        set_tensors(model, state.tensors)
        optimiser.load_state_dict(state.optimiser)
    per_epoch = steps_per_epoch(len(train), settings)
    most = per_epoch * settings.epochs

    def save() -> float:
        _write(model, optimiser, state, files)
        hooks.on_save(state.step, most)
        return time.monotonic()

    hooks.on_save(state.step, most)
    saved = time.monotonic()
    while True:
        if state.step % per_epoch == 0 and (not state.history or state.history[-1]["step"] != state.step):
            if rate is not None and state.step:
                save()  # answers take longer than steps: a kill among them costs none
            _evaluate(model, held_out, settings, state, files, per_epoch, hooks, rate)
            saved = save()
        if why_finished(state.history, settings) is not None:
            break
        _step(model, optimiser, batch_at(state.step, train, settings), settings, state)
        hooks.on_step(state.step, most)
        stop = hooks.stop()
        if stop or time.monotonic() - saved > _SAVE_EVERY_S:
            saved = save()
        if stop:
            raise StopRequestedError(
                f"stopped after step {state.step} of at most {most}; what is trained so far is kept\n"
                "  -> the same command goes on from there"
            )
    return state


def _step(
    model: Any, optimiser: torch.optim.Optimizer, batch: list[Encoded], settings: TrainingSettings, state: TrainingState
) -> None:
    torch.manual_seed((settings.seed << 32) + state.step)  # dropout, where a model has any
    model.train()
    for group in optimiser.param_groups:
        group["lr"] = settings.rate * min(1.0, (state.step + 1) / _WARMUP_STEPS)
    batch = by_length(batch)
    tokens = sum(len(item.ids) - item.start for item in batch)
    total = 0.0
    optimiser.zero_grad(set_to_none=True)
    for start in range(0, len(batch), settings.micro_batch):
        loss, _ = _summed_loss(model, batch[start : start + settings.micro_batch])
        torch.autograd.backward(loss / tokens)
        total += float(loss.detach())
    _require_finite(total, state.step)
    torch.nn.utils.clip_grad_norm_(list(trained_tensors(model).values()), 1.0)
    optimiser.step()
    state.step += 1
    state.loss_sum += total
    state.loss_tokens += tokens


def _summed_loss(model: Any, batch: Sequence[Encoded]) -> tuple[torch.Tensor, int]:
    """Cross-entropy of the answers' tokens, summed in float32, and how many they are."""
    device = next(model.parameters()).device
    ids, labels = (tensor.to(device) for tensor in padded(batch))
    kept = ids.shape[1] - min(item.start for item in batch)  # positions that predict an answer's token
    logits = model(input_ids=ids[:, :-1], use_cache=False, **_last_logits(model, kept)).logits[:, -kept:]
    targets = labels[:, -kept:]
    wanted = targets != -100
    loss = torch.nn.functional.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")
    return loss, int(wanted.sum())


def _last_logits(model: Any, n: int) -> dict[str, int]:
    """Asks for the last positions' logits alone, of models that can: a prompt's take memory and time for nothing."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {"logits_to_keep": n} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}


def _evaluate(
    model: Any,
    held_out: Sequence[Encoded],
    settings: TrainingSettings,
    state: TrainingState,
    files: StateFiles,
    per_epoch: int,
    hooks: LoopHooks,
    rate: Callable[[Any], RateCount] | None,
) -> None:
    loss = held_out_loss(model, held_out, settings.micro_batch)
    _require_finite(loss, state.step)
    trained = state.loss_sum / state.loss_tokens if state.loss_tokens else None
    entry = {"step": state.step, "epoch": state.step // per_epoch, "train_loss": trained, "held_out_loss": loss}
    if rate is not None:
        entry |= rate(model).to_json()
    state.history.append(entry)
    state.loss_sum, state.loss_tokens = 0.0, 0
    if state.step and state.best is entry:
        files.write_best(state.step, _on_cpu(trained_tensors(model)))
    hooks.on_evaluation(entry)


def _write(model: Any, optimiser: torch.optim.Optimizer, state: TrainingState, files: StateFiles) -> None:
    state.tensors = _on_cpu(trained_tensors(model))
    state.optimiser = optimiser.state_dict()
    files.write(state)


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _require_finite(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise ForeshockError(
            f"the loss is {loss} at step {step}: training diverged, or the model overflows in this type\n"
            "  -> give a smaller --learning-rate, or engine.dtype=float32, and another --output"
        )
