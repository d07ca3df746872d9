"""The model that an endpoint serves: what the server showed of it, and what is needed to talk about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.jobs.engines.endpoint.http import EndpointClient, RefusedError, WrongModelError
from foreshock.jobs.engines.endpoint.identity import ServedModel, Watch
from foreshock.jobs.engines.endpoint.probe import Abilities
from foreshock.jobs.engines.endpoint.protocol import Question
from foreshock.jobs.engines.request_checks import ModelLimits
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode


@dataclass(frozen=True)
class Served:
    """The checkpoint in service: what the server showed, and what is needed to talk about it."""

    client: EndpointClient
    model: ServedModel
    abilities: Abilities
    watch: Watch
    tokenizer: Tokenizer
    vocab_size: int
    asked: Question

    @property
    def limits(self) -> ModelLimits:
        return ModelLimits(self.vocab_size, self.model.max_model_len)

    @property
    def answers_as(self) -> str | None:
        return self.watch.answers_as


def require_control(tokenizer: Tokenizer, stop_token_ids: Sequence[int]) -> None:
    """Raise ValueError for stop tokens whose text other tokens may spell: a server that heeds no ids stops at texts."""
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ordinary = [token for token in stop_token_ids if token not in control]
    if ordinary:
        raise ValueError(
            f"the server heeds no stop_token_ids, and stop token {ordinary[0]} is no control token: its text "
            f"({decode(tokenizer, (ordinary[0],))!r}) may be part of other tokens"
        )


def explain(served: Served, error: Exception) -> str:
    """The text of a row's error. Raises WrongModelError when the server has lost the model."""
    if isinstance(error, RefusedError) and error.status == 404:
        raise WrongModelError(
            f"{served.client.base_url} no longer serves {served.model.id!r}: {error}\n"
            "  -> serve the checkpoint again and resume the run"
        )
    return str(error)
