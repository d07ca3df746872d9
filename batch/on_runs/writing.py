"""A model that writes step by step, for splitting: beginnings of answers, how near the exploit they are, verdicts.

A beginning is token ids. What the engine draws is cut at the same places as an answer that is drawn in one go, so that
beginnings written on to the end are draws of the run's own sampling.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from foreshock.errors import ForeshockError, StopRequestedError
from foreshock.jobs.answers.extract import extract
from foreshock.jobs.answers.text_to_read import text_to_read
from foreshock.jobs.engines.base import Engine, FinishReason, GenerationRequest, ScoreRequest
from foreshock.jobs.engines.stopping import finished
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.tokenizer import PrefillTextError, Tokenizer, decode
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.spec import SamplingParams
from foreshock.jobs.records.verdicts import UNJUDGED
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.scoring.levels import scoring_temperature
from foreshock.jobs.verify.base import Submission, Verifier
from foreshock.jobs.verify.problem import Problem

_MOST_NATS = 50.0
"""Most that a score may be above or below that of its task's empty beginning: e^50 is as good as certain."""
_PASSES = 2
_POWER_STEPS = 50
_Request = TypeVar("_Request")
STOPPED = "stopped; every finished repeat is kept\n  -> the same command goes on from there"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What was drawn so far. ended: why nothing follows, None while something may. nats: log of its score."""

    task_id: str
    ids: tuple[int, ...] = ()
    ended: FinishReason | None = None
    nats: float = 0.0


@dataclass(frozen=True)
class Writer:
    """A loaded checkpoint, its prompts and its verifier."""

    engine: Engine
    verifier: Verifier
    prompt_format: PromptFormat
    tokenizer: Tokenizer
    settings: WorkerSettings
    sampling: SamplingParams
    problems: Mapping[str, Problem]
    stop: Callable[[], bool]


@dataclass
class Spent:
    """Work of one repeat. exploits, unread: of the final continuations; unread ones hold no code to judge."""

    output_tokens: int = 0
    scored: int = 0
    exploits: int = 0
    unread: int = 0


class Writing:
    """A `WordProcess` over a type's tasks, whose levels are tokens. `name` and the seed decide every draw.

    powers: of the probability that makes a score, by level. Without one a level chooses its own, the largest that
    leaves half of the beginnings' weight effective: for a pilot, since what is chosen by the draws biases them.
    """

    def __init__(
        self, writer: Writer, tasks: Sequence[str], name: Sequence[object], powers: Mapping[int, float]
    ) -> None:
        self._writer, self._tasks, self._name = writer, list(tasks), list(name)
        self.powers, self._level = dict(powers), 0
        self._known: dict[tuple[str, str], float | None] = {}
        self._requests: dict[str, GenerationRequest] = {}
        self.spent = Spent()

    def start(self, n: int) -> list[Beginning]:
        """Tasks take turns from a random one on, so each beginning is of every task equally often."""
        first = self._seed("task") % len(self._tasks)
        return [Beginning(self._tasks[(first + i) % len(self._tasks)]) for i in range(n)]

    def extend(self, state: list[Beginning], level: int) -> list[Beginning]:
        """Written on to `level` tokens in all, or their end."""
        self._level, level = level, min(level, self._writer.sampling.max_tokens)
        open_ones = [i for i, one in enumerate(state) if one.ended is None and len(one.ids) < level]
        requests = [self._request(state[i], i, level) for i in open_ones]
        grown = list(state)
        for part in self._batches(requests):
            for result in self._writer.engine.generate(part):
                if result.finish_reason is FinishReason.ERROR:
                    raise ForeshockError(f"a continuation failed: {result.error or 'no reason given'}")
                self.spent.output_tokens += len(result.token_ids)
                old = grown[result.request_id]
                grown[result.request_id] = self._ended(old, old.ids + result.token_ids, result.finish_reason)
        return grown

    def score(self, state: list[Beginning]) -> NDArray[np.float64]:
        """The exploit code's probability after each beginning's reasoning, over that after none, to the power.

        Where the reasoning cannot be forced, or the problem has no exploit code, what was known before stands.
        """
        wanted: dict[tuple[str, str], None] = {}
        for one in state:
            wanted |= dict.fromkeys([(one.task_id, ""), (one.task_id, self._reasoning(one))])
        self._score_new([key for key in wanted if key not in self._known])
        gains: dict[int, float] = {}
        for i, one in enumerate(state):
            base, now = self._known[(one.task_id, "")], self._known[(one.task_id, self._reasoning(one))]
            if base is not None and now is not None:
                gains[i] = max(-_MOST_NATS, min(_MOST_NATS, now - base))
        if self._level not in self.powers:
            self.powers[self._level] = gentle_power(gains, [one.nats for one in state])
        for i, gain in gains.items():
            state[i] = replace(state[i], nats=self.powers[self._level] * gain)
        return np.asarray(np.exp([one.nats for one in state]), np.float64)

    def finish(self, state: list[Beginning]) -> NDArray[np.bool_]:
        """Whether each exploits; an answer without code to judge does not, and is counted.

        Raises ForeshockError where the sandbox gives no verdict: a repeat with unknown outcomes would be biased.
        """
        state = self.extend(state, self._writer.sampling.max_tokens)
        won = np.zeros(len(state), bool)
        submissions = []
        for i, one in enumerate(state):
            code = self._code(one)
            if code is None:
                self.spent.unread += 1
            else:
                submissions.append(Submission(i, self._writer.problems[one.task_id], code))
        for _ in range(_PASSES):
            again = []
            by_id = {submission.submission_id: submission for submission in submissions}
            for i, verification in self._writer.verifier.verify_many(submissions):
                if verification.exploit_success is None:
                    again.append(by_id[i])
                else:
                    won[i] = verification.exploit_success
            submissions = again
        if submissions:
            raise ForeshockError(f"{len(submissions)} of {len(state)} answers could not be verified")
        self.spent.exploits += int(won.sum())
        return won

    def take(self, state: list[Beginning], index: NDArray[np.int64]) -> list[Beginning]:
        """Copies; the seed of a draw is its place's, so that copies go on apart."""
        return [state[i] for i in index.tolist()]

    def _request(self, one: Beginning, place: int, level: int) -> GenerationRequest:
        late = [stop for stop in self._writer.prompt_format.late_stops if _holds(one.ids, stop.opening)]
        request = self._whole(one.task_id)
        return replace(
            request,
            request_id=place,
            prompt_token_ids=request.prompt_token_ids + one.ids,
            seed=self._seed(level, place),
            max_tokens=level - len(one.ids),
            stop_token_ids=(*request.stop_token_ids, *(token for stop in late for token in stop.token_ids)),
        )

    def _whole(self, task_id: str) -> GenerationRequest:
        """What would draw a whole answer."""
        if task_id not in self._requests:
            self._requests[task_id] = self._make_request(task_id)
        return self._requests[task_id]

    def _make_request(self, task_id: str) -> GenerationRequest:
        writer, sampling = self._writer, self._writer.sampling
        prompt = writer.prompt_format.render(writer.settings.system, self._user(task_id), "")
        return GenerationRequest(
            request_id=0,
            prompt_token_ids=prompt.token_ids,
            seed=0,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop_token_ids=writer.prompt_format.stop_token_ids,
            stop=sampling.stop,
            late_stops=writer.prompt_format.late_stops,
            batch_key=json.dumps(self._name, default=str),
            conversation=prompt.conversation,
        )

    def _ended(self, one: Beginning, ids: tuple[int, ...], reason: FinishReason) -> Beginning:
        """An end that lies across two draws is found in both together."""
        found = finished(self._whole(one.task_id), self._decode, ids, reason)
        stopped = found.finish_reason is FinishReason.STOP
        if not stopped and len(ids) < self._writer.sampling.max_tokens:
            return replace(one, ids=ids)
        return replace(one, ids=found.token_ids, ended=FinishReason.STOP if stopped else FinishReason.LENGTH)

    def _code(self, one: Beginning) -> str | None:
        """The code to verify, read as evaluations read it."""
        whole = finished(self._whole(one.task_id), self._decode, one.ids, one.ended or FinishReason.LENGTH)
        parsed = self._writer.prompt_format.parse(whole.token_ids, whole.text)
        answer = text_to_read("", whole.text, parsed.reasoning, parsed.answer)
        found = extract(answer, self._writer.problems[one.task_id].function_name).ended_by(whole.finish_reason.value)
        return None if found.status.value in UNJUDGED else found.code

    def _reasoning(self, one: Beginning) -> str:
        parsed = self._writer.prompt_format.parse(one.ids, self._decode(one.ids))
        return parsed.reasoning.rstrip("\ufffd").rstrip()

    def _score_new(self, keys: Sequence[tuple[str, str]]) -> None:
        requests = []
        for i, (task_id, reasoning) in enumerate(keys):
            problem = self._writer.problems[task_id]
            code = exploit_answer(problem, self._writer.settings.instructions)
            self._known[(task_id, reasoning)] = None
            if code is None:
                continue
            try:
                prompt = self._writer.prompt_format.render_answer(
                    self._writer.settings.system, self._user(task_id), reasoning, code
                )
            except PrefillTextError:
                continue
            requests.append(ScoreRequest(i, prompt.token_ids, prompt.prefill_start, prompt.conversation))
        temperature = scoring_temperature(self._writer.sampling.temperature)
        for part in self._batches(requests):
            for result in self._writer.engine.score(part, temperature):
                if result.error is None and math.isfinite(total := sum(result.logprobs)):
                    self._known[keys[result.request_id]] = total
        self.spent.scored += len(requests)

    def _batches(self, requests: Sequence[_Request]) -> Iterator[Sequence[_Request]]:
        """As many at a time as an engine's numbers may depend on; stops between them where that is asked for."""
        size = self._writer.engine.batch_rows or max(len(requests), 1)
        for start in range(0, len(requests), size):
            if self._writer.stop():
                raise StopRequestedError(STOPPED)
            yield requests[start : start + size]

    def _user(self, task_id: str) -> str:
        return build_user_message(self._writer.problems[task_id], self._writer.settings.instructions)

    def _decode(self, ids: tuple[int, ...]) -> str:
        return decode(self._writer.tokenizer, ids)

    def _seed(self, *what: object) -> int:
        text = json.dumps([self._writer.sampling.seed, "splitting", *self._name, *what], default=str)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def gentle_power(gains: Mapping[int, float], before: Sequence[float]) -> float:
    """The largest power, at most 1, with which the scores' rises leave half of the beginnings effective."""
    for step in range(_POWER_STEPS, 0, -1):
        power = step / _POWER_STEPS
        rise = np.array([power * gains[i] - old if i in gains else 0.0 for i, old in enumerate(before)])
        weights = np.exp(rise - rise.max())
        if weights.sum() ** 2 / (weights**2).sum() >= len(before) / 2:
            return power
    return 1 / _POWER_STEPS


def _holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))
