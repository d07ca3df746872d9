"""Find out what a server can do, by asking it for one token.

Abilities are read off answers, never off version strings: a server may ignore a field without a word, and a gateway
may drop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.engines.base import GenerationRequest
from foreshock.jobs.engines.endpoint.behaviour import UNTESTED, Behaviour, same_logprob
from foreshock.jobs.engines.endpoint.http import BadAnswerError, EndpointClient, RefusedError
from foreshock.jobs.engines.endpoint.identity import Distribution, read_distribution
from foreshock.jobs.engines.endpoint.protocol import (
    CHAT,
    PromptScores,
    Question,
    ScoreWay,
    ask_logprobs,
    echo_body,
    generation_body,
    read_completion,
    read_echo,
    read_prompt_logprobs,
    score_body,
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """What one server's answers showed. `wide`: it knows the fields beyond OpenAI's own. `by_logprobs`: it tells the
    drawn tokens' ids beside their log-probabilities only."""

    wide: bool
    tells_token_ids: bool
    tells_prompt_ids: bool
    body: Mapping[str, Any]
    answers_as: str | None
    distribution: Distribution | None
    behaviour: Behaviour = UNTESTED
    by_logprobs: bool = False

    def notes(self) -> list[str]:
        """What cannot be had, in words."""
        found = []
        if not self.tells_token_ids:
            found.append("it gives no token ids: continuations are tokenised again from their text")
        if not self.tells_prompt_ids:
            found.append("it does not say which token ids it read: only their number can be compared with the run's")
        if not self.wide:
            found.append("it refuses stop_token_ids and the like: its own sampling defaults stay in force")
        if self.distribution is None:
            found.append("it gives no log-probabilities of its tokens: the served model is told by its name alone")
        if self.wide and not self.behaviour.stop_ids:
            way = (
                "cut where they are drawn, which costs the tokens after it"
                if self.tells_token_ids
                else "ended by texts"
            )
            found.append(f"it takes stop_token_ids and does not heed it: continuations are {way}")
        if self.wide and not self.behaviour.ignore_eos:
            found.append("with ignore_eos it never ends a turn, so its own ends stay in force")
        return [*found, *self.behaviour.unproven]


async def probe_generation(client: EndpointClient, path: str, model: str, asked: Question) -> Abilities:
    """Ask for one greedy token, with every extension first, then with fewer. Raises InputError if none is taken."""
    request = GenerationRequest(0, asked.ids, seed=0, max_tokens=1, temperature=0.0)
    last: RefusedError | None = None
    for wide in (True, False):
        for extra in (ask_logprobs(path, 5), {}):
            body = generation_body(model, request, asked.fields, (), wide=wide) | extra
            try:
                answer = await client.post(path, body, dict)
                completion = read_completion(answer, None, ())
            except RefusedError as error:
                last = error
                if error.status in (404, 405):
                    break
                continue
            except (BadAnswerError, ValueError) as error:
                raise InputError(f"{client.base_url}/{path}: not the OpenAI protocol: {error}") from None
            return Abilities(
                wide=wide,
                tells_token_ids=completion.token_ids is not None,
                tells_prompt_ids=completion.prompt_token_ids is not None,
                body=body,
                answers_as=told if isinstance(told := answer.get("model"), str) else None,
                distribution=read_distribution(answer) or None,
                by_logprobs=completion.by_logprobs,
            )
    raise InputError(
        f"{client.base_url}/{path}: the server takes no such requests: {last}",
        fix="give the URL up to /v1; for a server without raw completions, engine.options.mode: chat; one that takes "
        "texts and no token ids (transformers serve) would read other tokens: use vLLM, llama.cpp's server or an "
        "engine in process",
    )


async def probe_scoring(
    client: EndpointClient, path: str, model: str, asked: Question, vocab: int, known: float | None = None
) -> ScoreWay:
    """How the server gives log-probabilities of a prompt, tried on a short one. `known`: that of the prompt's last
    token as the server told it when it drew it, which scoring must reproduce; None where it told nothing."""
    n = len(asked.ids)

    def by_field(answer: Mapping[str, Any]) -> bool:
        return right(read_prompt_logprobs(answer, None, asked.ids, 1, 1.0, vocab, 1))

    def by_echo(answer: Mapping[str, Any]) -> bool:
        return right(read_echo(answer, None, n, 1))

    def right(scores: PromptScores) -> bool:
        return same_logprob(scores.logprobs[-1], known)

    ways = [(ScoreWay.PROMPT_LOGPROBS, score_body(model, asked.fields, 1), by_field)]
    if path != CHAT:
        ways.append((ScoreWay.ECHO, echo_body(model, asked.fields), by_echo))
    for way, body, read in ways:
        try:
            answer = await client.post(path, body, dict)
            if read(answer):
                return way
        except (RefusedError, BadAnswerError, ValueError):
            continue
    return ScoreWay.NONE
