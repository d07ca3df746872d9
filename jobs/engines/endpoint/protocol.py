"""The OpenAI protocol, as far as the engine speaks it: request bodies and what answers must hold. Pure.

Prompts are token ids and everything that decides the draws is said in full. Servers fill gaps from the model's
generation_config.json (a top_k, a repetition penalty), add end-of-text tokens of their own and drop control tokens
from the text; a served run would then not be the run that was planned. Servers that know only the plain protocol get
the plain fields.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from foreshock.jobs.engines.base import FinishReason, GenerationRequest
from foreshock.jobs.engines.endpoint.http import BadAnswerError, WrongModelError
from foreshock.jobs.engines.tempered import tempered_logprob
from foreshock.jobs.prompts.base import Conversation

COMPLETIONS, CHAT = "completions", "chat/completions"

_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
}
_WIDE_FIELDS: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "add_special_tokens": False,
    "return_token_ids": True,
}
"""Fields beyond OpenAI's own that vLLM and its relatives know; all switch a server's own defaults off."""

_MINUS_INFINITY = -9999.0
"""What vLLM writes for it, JSON having no infinities."""


class ScoreWay(StrEnum):
    """How a server gives log-probabilities of a prompt."""

    PROMPT_LOGPROBS = "prompt_logprobs"
    ECHO = "echo"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that a server is tried with: the ids that it is to read, the fields that say it, and in chat mode the
    conversation behind them."""

    ids: tuple[int, ...]
    fields: Mapping[str, Any]
    conversation: Conversation | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation as the server tells it; None where it does not. `by_logprobs`: its ids stood beside their
    log-probabilities only."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...] | None
    prompt_token_ids: tuple[int, ...] | None
    n_prompt_tokens: int | None
    by_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class PromptScores:
    """Log-probabilities of prefill tokens, and the mean bound of their error, in nats a token. `partial`: from some of
    the likeliest tokens, not from all."""

    logprobs: tuple[float, ...]
    uncertainty: float = 0.0
    partial: bool = False


def ask_logprobs(path: str, top: int) -> dict[str, Any]:
    """Fields that ask for the drawn tokens' log-probabilities, and for those of the `top` likeliest at each place."""
    return {"logprobs": True, "top_logprobs": top} if path == CHAT else {"logprobs": top}


def prompt_fields(
    token_ids: Sequence[int],
    messages: Sequence[Mapping[str, str]] | None,
    template_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The prompt: token ids, or messages of which the last one, the assistant's, is to be continued; the server's chat
    template gets the run's own arguments."""
    if messages is None:
        return {"prompt": list(token_ids)}
    return {
        "messages": list(messages),
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template_kwargs": dict(template_args or {}),
    }


def generation_body(
    model: str,
    request: GenerationRequest,
    prompt: Mapping[str, Any],
    stop: Sequence[str],
    *,
    wide: bool,
    stop_ids: bool = True,
    ignore_eos: bool = True,
) -> dict[str, Any]:
    """Body of one continuation. `stop` are the stop tokens' texts, for servers that heed no ids; `stop_ids` and
    `ignore_eos` say what a server that takes wide fields was seen to heed."""
    body: dict[str, Any] = {
        "model": model,
        **prompt,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "n": 1,
        "stream": False,
    }
    if wide:
        strings = [*request.stop, *([] if stop_ids else stop)]
        ends: dict[str, Any] = {"stop_token_ids": list(request.stop_token_ids)} if stop_ids else {}
        ends |= {"ignore_eos": True} if ignore_eos else {}
        return body | _WIDE_FIELDS | ends | ({"stop": strings} if strings else {})
    # At most four, OpenAI's limit: what the server is not told is cut off by `finished`, and costs tokens only.
    strings = [*request.stop, *stop][:4]
    return body | ({"stop": strings} if strings else {})


def score_body(model: str, prompt: Mapping[str, Any], top_k: int) -> dict[str, Any]:
    """Body that asks for the prompt's log-probabilities in vLLM's way.

    A salt of its own keeps the request off the prefix cache, whose positions have no log-probabilities.
    """
    wide = {k: v for k, v in _WIDE_FIELDS.items() if k in ("add_special_tokens", "return_token_ids")}
    limits = {"max_tokens": 1, "temperature": 1.0, "n": 1, "stream": False}
    return {"model": model, **prompt, **limits, **wide, "prompt_logprobs": top_k, "cache_salt": uuid.uuid4().hex}


def echo_body(model: str, prompt: Mapping[str, Any]) -> dict[str, Any]:
    """The same in OpenAI's own way: the prompt is repeated with log-probabilities at temperature 1."""
    return {"model": model, **prompt, "max_tokens": 1, "temperature": 1.0, "n": 1, "echo": True, "logprobs": 1}


def read_completion(answer: Mapping[str, Any], model: str | None, stop_token_ids: Sequence[int]) -> Completion:
    """Take one answer apart. Raises BadAnswerError when anything is missing or does not fit together, ValueError where
    the server leaves out tokens that it drew."""
    choice = _choice(answer, model)
    reason = choice.get("finish_reason")
    if reason not in _FINISH:
        raise BadAnswerError(f"finish_reason is {reason!r}; a whole continuation ends with stop or length")
    ids = _ids(choice.get("token_ids"), "token_ids")
    by_logprobs = ids is None and (ids := _ids_of_logprobs(choice)) is not None
    prompt_ids = _ids(choice.get("prompt_token_ids") or answer.get("prompt_token_ids"), "prompt_token_ids")
    usage = answer.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    n_output, n_prompt = counts.get("completion_tokens"), counts.get("prompt_tokens")
    if by_logprobs and ids is not None and n_output != len(ids):
        raise ValueError(
            f"the server told {len(ids)} of the {n_output} tokens that it drew (llama.cpp's leaves out those that "
            "spell part of a character), so this continuation cannot be read; use vLLM, or sample in process"
        )
    if ids is not None and isinstance(n_output, int) and n_output != len(ids):
        raise BadAnswerError(f"{len(ids)} token ids where usage counts {n_output}")
    if ids and _FINISH[reason] is FinishReason.STOP:
        ends = {*stop_token_ids, choice.get("stop_reason")}
        ids = ids[:-1] if ids[-1] in ends else ids
    n_read = n_prompt if isinstance(n_prompt, int) else None
    return Completion(_text(choice), _FINISH[reason], ids, prompt_ids, n_read, by_logprobs)


def read_prompt_logprobs(
    answer: Mapping[str, Any],
    model: str | None,
    token_ids: Sequence[int],
    prefill_start: int,
    temperature: float,
    vocab_size: int,
    top_k: int,
) -> PromptScores:
    """Scores from vLLM's `prompt_logprobs`. Raises BadAnswerError; ValueError where the numbers make no sense."""
    choice = _choice(answer, model)
    positions = choice.get("prompt_logprobs") or answer.get("prompt_logprobs")
    if not isinstance(positions, list) or len(positions) != len(token_ids):
        found = len(positions) if isinstance(positions, list) else "no"
        raise BadAnswerError(f"{found} prompt log-probabilities for {len(token_ids)} tokens")
    served = _ids(choice.get("prompt_token_ids") or answer.get("prompt_token_ids"), "prompt_token_ids")
    if served is not None and served != tuple(token_ids):
        raise ValueError(different_ids(token_ids, served))
    values: list[float] = []
    errors: list[float] = []
    for token, entries in zip(token_ids[prefill_start:], positions[prefill_start:], strict=True):
        chosen, top, others = _entries(entries, token, top_k)
        scored = tempered_logprob(chosen, top, others, vocab_size, temperature)
        values.append(scored.value)
        errors.append(scored.uncertainty)
    return PromptScores(tuple(values), math.fsum(errors) / len(errors))


def read_echo(answer: Mapping[str, Any], model: str | None, n_tokens: int, prefill_start: int) -> PromptScores:
    """Scores from `echo` with `logprobs`. Raises BadAnswerError."""
    logprobs = _choice(answer, model).get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, Mapping) else None
    if not isinstance(values, list) or not n_tokens <= len(values) <= n_tokens + 1:
        found = len(values) if isinstance(values, list) else "no"
        raise BadAnswerError(f"{found} echoed log-probabilities for {n_tokens} tokens")
    return PromptScores(tuple(_logprob(value) for value in values[prefill_start:n_tokens]))


def require_same_prompt(told: Completion, sent: tuple[int, ...]) -> None:
    """Raises ValueError if the server read another prompt than was sent, as far as it says."""
    if told.prompt_token_ids is not None and told.prompt_token_ids != sent:
        raise ValueError(different_ids(sent, told.prompt_token_ids))
    if told.n_prompt_tokens is not None and told.n_prompt_tokens != len(sent):
        raise ValueError(f"the server read {told.n_prompt_tokens} prompt tokens where {len(sent)} belong")


def different_ids(sent: Sequence[int], served: Sequence[int]) -> str:
    """Where the server's token ids differ from ours."""
    at = next((i for i, (a, b) in enumerate(zip(sent, served, strict=False)) if a != b), min(len(sent), len(served)))
    return (
        f"the server read other token ids than the run's own: {len(served)} where {len(sent)} belong, the first "
        f"difference at position {at}"
    )


def _choice(answer: Mapping[str, Any], model: str | None) -> Mapping[str, Any]:
    told = answer.get("model")
    if model is not None and told != model:
        raise WrongModelError(
            f"an answer comes from model {told!r}, those before it came from {model!r}\n"
            "  -> serve the checkpoint again and resume the run"
        )
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise BadAnswerError("the answer holds no choice")
    return choices[0]


def _text(choice: Mapping[str, Any]) -> str:
    """The text of either form. A reasoning parser on the server takes the closing tag away; it is put back."""
    message = choice.get("message")
    if isinstance(message, Mapping):
        reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
        content = message.get("content")
        if not isinstance(reasoning, str) or not isinstance(content, str | None):
            raise BadAnswerError("the answer's message holds no text")
        return f"{reasoning}</think>\n\n{content}" if reasoning and content else reasoning + (content or "")
    text = choice.get("text")
    if not isinstance(text, str):
        raise BadAnswerError("the answer's choice holds no text")
    return text


def _ids(value: Any, name: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, int) and item >= 0 for item in value):
        raise BadAnswerError(f"{name} is not a list of token ids")
    return tuple(value)


def _ids_of_logprobs(choice: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Ids beside the drawn tokens' log-probabilities, which llama.cpp's server gives: its text leaves control tokens
    out, and so the end of the reasoning."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not all(isinstance(e, Mapping) and "id" in e for e in content):
        return None
    return _ids([entry["id"] for entry in content], "logprobs.content")


def _entries(entries: Any, token: int, top_k: int) -> tuple[float, list[float], list[float]]:
    """(the token's own log-probability, those of the `top_k` likeliest, further known ones) at one position.

    A token outside the likeliest comes as one entry more.
    """
    if not isinstance(entries, Mapping) or str(token) not in entries:
        raise BadAnswerError(f"no log-probability of token {token}")
    if not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise BadAnswerError("a prompt log-probability is no object")
    values = {key: _logprob(entry.get("logprob")) for key, entry in entries.items()}
    chosen = values[str(token)]
    if len(values) <= top_k or top_k < 0:
        return chosen, list(values.values()), []
    return chosen, [value for key, value in values.items() if key != str(token)], [chosen]


def _logprob(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise BadAnswerError(f"{value!r} is no log-probability")
    if value <= _MINUS_INFINITY:
        raise ValueError("the model's logits are not finite")
    return float(value)
