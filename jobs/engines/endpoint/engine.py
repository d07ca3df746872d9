"""The endpoint engine: a model behind an OpenAI-compatible URL, such as `vllm serve`.

A result is let go only after a look at the served model that began when the result was already here, so that a server
which was restarted with another checkpoint, or a wrong one behind a load balancer, costs the rows in flight and
cannot slip a row in. Everything that cannot be had from a server (exact token ids, prompt log-probabilities,
temperatures other than 1) is found out, said, and never replaced by a guess.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.closing import Closing
from foreshock.jobs.engines.base import (
    FinishReason,
    GenerationRequest,
    GenerationResult,
    LogprobTemperature,
    PromptLogprobs,
    ScoreRequest,
    Stop,
    never,
)
from foreshock.jobs.engines.endpoint.behaviour import require_finite_tokens
from foreshock.jobs.engines.endpoint.chat import continued_messages, further_question
from foreshock.jobs.engines.endpoint.connection import Connection
from foreshock.jobs.engines.endpoint.http import RefusedError, UnreachableError
from foreshock.jobs.engines.endpoint.probe import probe_scoring
from foreshock.jobs.engines.endpoint.protocol import (
    CHAT,
    COMPLETIONS,
    Completion,
    ScoreWay,
    ask_logprobs,
    generation_body,
    prompt_fields,
    read_completion,
    require_same_prompt,
)
from foreshock.jobs.engines.endpoint.scoring import Scorer
from foreshock.jobs.engines.endpoint.served import Served, explain, require_control
from foreshock.jobs.engines.endpoint.stream import LoopThread, Stream
from foreshock.jobs.engines.request_checks import (
    failed_generation,
    failed_score,
    require_scoring_temperature,
)
from foreshock.jobs.engines.stopping import finished
from foreshock.jobs.prompts.base import Conversation
from foreshock.jobs.prompts.tokenizer import decode, encode_prompt, load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

_log = logging.getLogger(__name__)
_PATHS = {"completions": COMPLETIONS, "chat": CHAT}
_LINGER_S = 0.25
"""Results that finish within this time share one look at the served model."""

_PATIENCE_S = 0.5
"""Longest wait before the stop flag is asked again."""

_URL = re.compile(r"^https?://[^/@\s?#]+(/[^@\s?#]*)?$")

Q = TypeVar("Q", GenerationRequest, ScoreRequest)
R = TypeVar("R", GenerationResult, PromptLogprobs)


class EndpointError(ForeshockError):
    """A server that cannot be used at all; single requests that fail become error rows instead."""


class OpenAIEngine(Closing):
    """Implements `Engine` over HTTP.

    base_url: up to and with /v1; {run}, {name} and {step} stand for the checkpoint's. model: what the server calls the
    checkpoint, with the same placeholders; default: the entry of its model list that is the checkpoint's directory or
    name. mode: completions (token ids) or chat (continued messages). concurrency: requests at once. api_key_env:
    environment variable with the key, which is never written anywhere. timeout: seconds for one answer. retries,
    backoff: see `EndpointClient`. score_top_k: likeliest tokens asked for when scoring at a temperature other than 1;
    -1 for all; None: as few as settle a score, more for the rows that need them, as far as the server gives them.
    max_uncertainty: mean bound, in nats a token, above which such a score is refused. identity_interval: seconds
    between probes of the served model.
    """

    name = "openai"

    def __init__(
        self,
        base_url: str = "",
        model: str | None = None,
        mode: str = "completions",
        concurrency: int = 64,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 3600.0,
        retries: int = 8,
        backoff: float = 0.5,
        score_top_k: int | None = None,
        max_uncertainty: float = 0.01,
        identity_interval: float = 60.0,
    ) -> None:
        if not _URL.match(base_url):
            shown = re.sub(r"//[^/]*@", "//<removed>@", base_url).partition("?")[0]
            raise InputError(
                f"engine 'openai': base_url is {shown!r}; it must be like http://host:8000/v1, no password or query",
                fix="--base-url, or engine.options.base_url; a key goes into the variable that api_key_env names",
            )
        if mode not in _PATHS:
            raise InputError(f"engine 'openai': unknown mode {mode!r}; valid: {', '.join(_PATHS)}")
        for option, value, least in (
            ("concurrency", concurrency, 1),
            ("retries", retries, 0),
            ("timeout", timeout, 1e-3),
        ):
            if value < least:
                raise InputError(f"engine 'openai': {option} is {value}; it must be at least {least:g}")
        if score_top_k is not None and score_top_k < 1 and score_top_k != -1:
            raise InputError(f"engine 'openai': score_top_k is {score_top_k}; valid: 1 and above, or -1 for all tokens")
        self._path, self.concurrency = _PATHS[mode], concurrency
        self._connection = Connection(
            base_url.rstrip("/"),
            model,
            self._path,
            api_key_env,
            concurrency,
            timeout,
            retries,
            backoff,
            identity_interval,
        )
        self._top_k, self._max_uncertainty = score_top_k, max_uncertainty
        self.forward_count = self.scored_sequences = self.generated_tokens = self.builds = self.swaps = 0
        self.notes: list[str] = []
        self._loop: LoopThread | None = None
        self._served: Served | None = None
        self._scorer: Scorer | None = None

    @property
    def batch_rows(self) -> int | None:
        """None: a server batches continuously."""
        return None

    # -- loading

    def load(self, checkpoint: Checkpoint) -> None:
        """Make sure that the server serves `checkpoint` and find out what it can do.

        Raises WrongModelError if it serves another, EndpointError if it cannot be reached.
        """
        before, self._scorer = self._served, None
        self._drop()
        tokenizer = load_tokenizer(checkpoint.tokenizer_path)
        self._loop = self._loop or LoopThread()
        client = self._loop.call(self._connection.connect(checkpoint))
        try:
            self._served = self._loop.call(self._connection.recognise(client, checkpoint, tokenizer))
        except BaseException as error:
            self._loop.call(client.close())
            if isinstance(error, UnreachableError):
                raise EndpointError(f"{error}\n  -> is the server up? curl {client.base_url}/models") from None
            raise
        self.builds += before is None
        self.swaps += before is not None
        self.notes = self._served.abilities.notes()
        for note in self.notes:
            _log.warning("%s: %s", client.base_url, note)

    def served_context(self, checkpoint: Checkpoint) -> int | None:
        """Tokens of one request as the server limits them, None if it does not say. Raises as `load` does; asks for
        the model list alone."""
        self._loop = self._loop or LoopThread()
        client = self._loop.call(self._connection.connect(checkpoint))
        try:
            return self._loop.call(self._connection.listed(client, checkpoint)).max_model_len
        except UnreachableError as error:
            raise EndpointError(str(error)) from None
        finally:
            self._loop.call(client.close())

    def covers(self, n_tokens: int, longer: int) -> bool:
        """Taken to be so: what the server does about rotary frequencies is not told."""
        return True

    def close(self) -> None:
        """Drop the connections."""
        self._drop()
        if self._loop is not None:
            self._loop.close()
        self._loop = None

    def _drop(self) -> None:
        if self._served is not None and self._loop is not None:
            self._loop.call(self._served.client.close())
        self._served = None

    # -- generation

    def generate(self, requests: Sequence[GenerationRequest], stop: Stop = never) -> Iterator[GenerationResult]:
        """Every request once, as each finishes. One that the server cannot do comes back with `error`.

        Once `stop()` is true, what is in flight is cancelled, and a server that notices stops generating for it.
        Raises WrongModelError if the served model changes; results not yet looked after are then dropped.
        """
        served = self._loaded()

        async def one(request: GenerationRequest) -> GenerationResult:
            problem = served.limits.refuse_generation(request)
            if problem is not None:
                return failed_generation(request, problem)
            if request.max_tokens == 0:
                return GenerationResult(request.request_id, (), "", FinishReason.LENGTH)
            try:
                return await self._complete(served, request)
            except (RefusedError, UnreachableError, ValueError) as error:
                return failed_generation(request, explain(served, error))

        yield from self._stream(served, requests, one, failed_generation, stop)

    async def _complete(self, served: Served, request: GenerationRequest) -> GenerationResult:
        sent = request
        if served.model.max_model_len is not None:  # the engines in process stop at the context's end, servers refuse
            room = served.model.max_model_len - len(request.prompt_token_ids)
            sent = replace(request, max_tokens=min(request.max_tokens, room))
        stops = [decode(served.tokenizer, (token,)) for token in request.stop_token_ids]
        prompt = self._prompt(served, request.prompt_token_ids, request.conversation)
        how = served.abilities.behaviour
        ids_told = served.abilities.tells_token_ids
        if served.abilities.by_logprobs:  # stop strings would be cut off its ids by count, which is a guess
            sent = replace(sent, stop=())
        if not ids_told and not (served.abilities.wide and how.stop_ids):
            require_control(served.tokenizer, request.stop_token_ids)
        body = generation_body(
            served.model.id,
            sent,
            prompt,
            () if ids_told else stops,  # texts that ordinary tokens may spell, too
            wide=served.abilities.wide,
            stop_ids=how.stop_ids,
            ignore_eos=how.ignore_eos,
        )
        if served.abilities.distribution is not None:  # the drawn tokens' own: not finite where the logits were not
            body |= ask_logprobs(self._path, 1)

        def read(answer: Mapping[str, Any]) -> Completion:
            require_finite_tokens(answer)
            return read_completion(answer, served.answers_as, request.stop_token_ids)

        told = await served.client.post(self._path, body, read)
        require_same_prompt(told, request.prompt_token_ids)
        if ids_told and told.token_ids is None:
            raise ValueError("the server told the drawn tokens' ids before, and does not now")
        ids, reason = told.token_ids, told.finish_reason
        text = told.text if ids is None else None
        if ids is None:
            ids = encode_prompt(served.tokenizer, told.text)
        else:
            end = next((place for place, token in enumerate(ids) if token in request.stop_token_ids), None)
            ids, reason = (ids, reason) if end is None else (ids[:end], FinishReason.STOP)
        if text is not None:  # stop tokens that the server was not told, or was told by their texts alone
            request = replace(request, stop=(*request.stop, *stops))
        result = finished(request, partial(decode, served.tokenizer), ids, reason, text)
        self.forward_count += 1
        self.generated_tokens += len(result.token_ids)
        return result

    # -- scoring

    def score(self, requests: Sequence[ScoreRequest], temperature: float) -> Iterator[PromptLogprobs]:
        """Log-probabilities at `temperature`: exact at 1; else from the likeliest tokens, within a known bound.

        A server that does not give a prompt's log-probabilities gives rows with that error.
        """
        require_scoring_temperature(temperature)
        served = self._loaded()
        if not requests:
            return
        scorer: Scorer | None = None
        try:
            scorer = self._scoring(served)
            unable = scorer.unable(temperature)
        except UnreachableError as error:
            unable = str(error)

        async def one(request: ScoreRequest) -> PromptLogprobs:
            ids, start = request.token_ids, request.prefill_start
            problem = unable or served.limits.refuse_scoring(request)
            if problem is not None or scorer is None:
                return failed_score(request, problem or "the server could not be asked")
            try:
                prompt = self._prompt(served, ids, request.conversation)
                found = await scorer.score(request, prompt, temperature)
            except (RefusedError, UnreachableError, ValueError) as error:
                return failed_score(request, explain(served, error))
            self.forward_count += 1
            self.scored_sequences += 1
            method = LogprobTemperature.TOP_K if found.partial else LogprobTemperature.FULL_SOFTMAX
            return PromptLogprobs(request.request_id, ids, found.logprobs, start, method=method)

        yield from self._stream(served, requests, one, failed_score, never)

    def _scoring(self, served: Served) -> Scorer:
        """How the server scores prompts, found out once."""
        assert self._loop is not None
        if self._scorer is None:
            way = self._loop.call(self._probe_scoring(served))
            self._scorer = Scorer(
                served.client,
                self._path,
                served.model.id,
                served.answers_as,
                served.vocab_size,
                self._top_k,
                self._max_uncertainty,
                way,
            )
        return self._scorer

    def scoring_problem(self, temperature: float) -> str | None:
        """Why prefills cannot be scored at this temperature, told by a short prompt; None if they can be."""
        require_scoring_temperature(temperature)
        served = self._loaded()
        asked = served.asked
        start = len(asked.ids) - 1
        (found,) = self.score([ScoreRequest(0, asked.ids, start, asked.conversation)], temperature)
        return found.error

    # -- helpers

    async def _probe_scoring(self, served: Served) -> ScoreWay:
        """How prompts are scored, held against a token of which the server told the log-probability when it drew it."""
        first, told = served.abilities.behaviour.first, served.abilities.distribution or {}
        likeliest = None if first is None else told.get(decode(served.tokenizer, (first,)))
        further = None if first is None else further_question(served.tokenizer, served.asked, first)
        return await probe_scoring(
            served.client,
            self._path,
            served.model.id,
            further or served.asked,
            served.vocab_size,
            None if further is None else likeliest,
        )

    def _stream(
        self,
        served: Served,
        requests: Sequence[Q],
        one: Callable[[Q], Awaitable[R]],
        fail: Callable[[Q, str], R],
        stop: Stop,
    ) -> Iterator[R]:
        """Results as they finish, each after a look at the served model that it was here for."""
        loop = self._loop
        assert loop is not None

        async def pair(request: Q) -> tuple[Q, R]:
            return request, await one(request)

        async def start() -> Stream[Q, tuple[Q, R]]:
            served.client.outage.reason = None
            return Stream(requests, pair, min(self.concurrency, max(1, len(requests))))

        stream = loop.call(start())
        try:
            while not stop() and (batch := loop.call(stream.next_batch(_LINGER_S, _PATIENCE_S))) is not None:
                problem = None
                if any(result.error is None for _, result in batch):
                    try:
                        loop.call(served.watch.look())
                    except UnreachableError as error:
                        problem = f"the served model could not be looked at again: {error}"
                for request, result in batch:
                    yield result if problem is None or result.error is not None else fail(request, problem)
        finally:
            loop.call(stream.cancel())

    def _prompt(self, served: Served, ids: tuple[int, ...], conversation: Conversation | None) -> dict[str, Any]:
        messages = continued_messages(served.tokenizer, conversation, ids) if self._path == CHAT else None
        return prompt_fields(ids, messages, conversation.template_args if conversation is not None else None)

    def _loaded(self) -> Served:
        if self._served is None:
            raise RuntimeError("no checkpoint is loaded; call load(checkpoint) first")
        return self._served
