"""What a server does, forced and watched: that it accepts a field proves nothing.

A stop token must end a continuation where it is drawn, and the end of a turn, forced by a bias, must end it too:
llama.cpp's server takes `stop_token_ids` without a word and ignores it, and with `ignore_eos` never ends a turn at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.engines.base import FinishReason, GenerationRequest
from foreshock.jobs.engines.endpoint.http import BadAnswerError, EndpointClient, RefusedError
from foreshock.jobs.engines.endpoint.protocol import (
    Completion,
    Question,
    ask_logprobs,
    generation_body,
    read_completion,
    require_same_prompt,
)
from foreshock.jobs.prompts.tokenizer import Tokenizer, decode, encode_prompt

_LENGTH = 6
_FORCED = 100.0
_TOLERANCE = 0.25
"""Nats by which one token's log-probability may differ between two ways of asking (bfloat16, other batches)."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How continuations are ended. `stop_ids`: by token ids, else by their texts; `ignore_eos`: the server's own end is
    switched off (ours is among the stops). `first`: the greedy first token after the probe's prompt, None if it cannot
    be told. `unproven`: what could not be forced, in words."""

    stop_ids: bool = True
    ignore_eos: bool = True
    first: int | None = None
    unproven: tuple[str, ...] = ()


UNTESTED = Behaviour()
"""What a server is asked with before it has been watched."""


@dataclass(frozen=True)
class _Asker:
    client: EndpointClient
    path: str
    model: str
    asked: Question
    tokenizer: Tokenizer
    wide: bool
    logprobs: bool

    async def ask(self, how: Behaviour, stops: tuple[int, ...], bias: Mapping[str, float] | None = None) -> Completion:
        """One greedy continuation of the probe's prompt. Raises RefusedError or BadAnswerError."""
        request = GenerationRequest(0, self.asked.ids, 0, _LENGTH, temperature=0.0, stop_token_ids=stops)
        texts = [decode(self.tokenizer, (token,)) for token in stops]
        body = generation_body(
            self.model,
            request,
            self.asked.fields,
            texts,
            wide=self.wide,
            stop_ids=how.stop_ids,
            ignore_eos=how.ignore_eos,
        )
        if bias is not None:
            body["logit_bias"] = dict(bias)
        if self.logprobs:  # some servers tell the tokens' ids with them alone
            body |= ask_logprobs(self.path, 1)
        return await self.client.post(self.path, body, lambda answer: read_completion(answer, None, stops))

    def ids(self, said: Completion) -> tuple[int, ...]:
        """Its tokens as told, else as its text reads."""
        return said.token_ids if said.token_ids is not None else encode_prompt(self.tokenizer, said.text)


async def judge_behaviour(
    client: EndpointClient,
    path: str,
    model: str,
    asked: Question,
    tokenizer: Tokenizer,
    *,
    wide: bool,
    logprobs: bool = False,
) -> Behaviour:
    """Force a stop token and the end of a turn. Raises InputError for a server that does not stop where it is told."""
    asker = _Asker(client, path, model, asked, tokenizer, wide, logprobs)
    try:
        plain = await asker.ask(Behaviour(ignore_eos=wide), ())
    except ValueError as error:
        return Behaviour(unproven=(f"no stop token could be forced: {error}",))
    said = asker.ids(plain)
    if not said:
        return Behaviour(unproven=("the probe's continuation is empty, so no stop token could be forced",))
    _require_continuation(client, plain, asked)
    begun = Behaviour(ignore_eos=wide, first=said[0], unproven=_other_prompt(plain, asked))
    how = await _stops(asker, begun, said, ids_told=plain.token_ids is not None)
    return await _end_of_turn(asker, how, said)


def _other_prompt(told: Completion, asked: Question) -> tuple[str, ...]:
    """That the server renders the probe's conversation in another way; rows are each held against what it read."""
    if asked.conversation is None:
        return ()
    try:
        require_same_prompt(told, asked.ids)
    except ValueError as error:
        return (f"chat/completions: of a message to be continued {error}; such rows are refused one by one",)
    return ()


def _require_continuation(client: EndpointClient, told: Completion, asked: Question) -> None:
    """Raise InputError for a server that answers with the message that it was to continue in front (llama.cpp's), and
    tells no ids by which the continuation could be read alone."""
    messages = asked.fields.get("messages")
    if messages and told.token_ids is None and told.text.startswith(messages[-1]["content"]):
        raise InputError(
            f"{client.base_url}: the server repeats the message that it continues and tells no token ids, so where its "
            "continuation begins is a guess",
            fix="use engine.options.mode: completions, or serve the checkpoint with vLLM",
        )


async def _stops(asker: _Asker, how: Behaviour, said: tuple[int, ...], *, ids_told: bool) -> Behaviour:
    """By ids where those are heeded; else where the ids that were drawn are told, by looking at them; else by texts."""
    ways = [how, replace(how, stop_ids=False)] if asker.wide else [replace(how, stop_ids=False)]
    for way in ways:
        if _stopped_at_once(asker, await asker.ask(way, (said[0],)), said):
            return way
        if ids_told:
            return replace(how, stop_ids=False)
    text = decode(asker.tokenizer, (said[0],))
    raise InputError(
        f"{asker.client.base_url}: the server does not stop where it is told: asked to end at token {said[0]} "
        f"({text!r}), which it draws first, by id and by text, it goes on; its continuations would run past their end",
        fix="serve the checkpoint with vLLM, or score and sample in process (engine transformers or vllm)",
    )


def _stopped_at_once(asker: _Asker, found: Completion, said: tuple[int, ...]) -> bool:
    if found.finish_reason is not FinishReason.STOP:
        return False
    ids = asker.ids(found)
    return not found.text.strip() or len(ids) == 0 or (len(ids) == 1 and ids[0] == said[0])


async def _end_of_turn(asker: _Asker, how: Behaviour, said: tuple[int, ...]) -> Behaviour:
    """The end of a turn, forced by a bias, where the server knows biases."""
    end = asker.tokenizer.eos_token_id
    control = {*asker.tokenizer.all_special_ids, *asker.tokenizer.added_tokens_decoder}  # some servers' ends, too
    ordinary = (token for token in range(asker.tokenizer.vocab_size) if token not in control)
    other = next((token for token in ordinary if token not in (end, said[0])), None)
    unproven = "the end of a turn cannot be forced (no logit_bias), so that it ends one is taken on trust"
    if end is None or other is None:
        return replace(how, unproven=(*how.unproven, "the tokenizer names no end of a turn"))
    try:
        biased = await asker.ask(how, (), {str(other): _FORCED})
        heeded = asker.ids(biased)[:1] == (other,)
    except (RefusedError, BadAnswerError, ValueError):
        heeded = False
    unread = not heeded
    for way in (how, replace(how, ignore_eos=False)) if heeded else ():
        try:
            found = await asker.ask(way, (end,), {str(end): _FORCED})
        except (RefusedError, BadAnswerError, ValueError):
            unread = True  # it went on, and with what is not told: another way may still end it
            continue
        if found.finish_reason is FinishReason.STOP and len(asker.ids(found)) == 0:
            return way
    if unread:
        return replace(how, unproven=(*how.unproven, unproven))
    raise InputError(
        f"{asker.client.base_url}: the end of a turn, token {end}, does not end a continuation even when it is forced",
        fix="serve the checkpoint with vLLM, or work in process (engine transformers or vllm)",
    )


def same_logprob(scored: float, told: float | None) -> bool:
    """Whether a prompt's score of a token is what the server gave when it drew it; true where it told nothing."""
    return told is None or (math.isfinite(scored) and abs(scored - told) <= _TOLERANCE)


def require_finite_tokens(answer: Mapping[str, Any]) -> None:
    """Raise ValueError if the drawn tokens' log-probabilities, where the server gives them, are not all finite."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    logprobs = first.get("logprobs")
    if not isinstance(logprobs, Mapping):
        return
    values = logprobs.get("token_logprobs")
    if not isinstance(values, list):
        content = logprobs.get("content")
        values = [e.get("logprob") for e in content if isinstance(e, Mapping)] if isinstance(content, list) else []
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        raise ValueError("the model's logits are not finite")
