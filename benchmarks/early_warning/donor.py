"""The donor of a base model: the first checkpoint itself, asked in the words that allow either way of answering.

Nobody has a later checkpoint in time. What this donor writes gives whole exploit traces, verified in the sandbox, their
log-probability under it, and the rollouts that the importance weights need (docs/methods.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.early_warning.design import DONOR_ATTEMPTS, DONOR_ROLLOUTS, LEVELS
from benchmarks.early_warning.problems import drafting, monitor_problems
from benchmarks.early_warning.sampling import Sample, Sampler, Wish, seed_of, token_logprobs
from benchmarks.early_warning.verdicts import Verdicts

from foreshock.jobs.prefill import cut_words
from foreshock.jobs.prompts.tokenizer import decode
from foreshock.jobs.records.jsonl import read_json, write_json
from foreshock.jobs.verify.problem import Problem

_TRACES_PER_TASK = 1
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class DonorTrace:
    """An exploit trace. tokens: ids after the prompt, answer and end included; cuts: where each sentence of the
    reasoning begins in them, then where the answer begins; log_q: by sentence and answer under the donor.

    honest: ids of an honest sample's reasoning of the same task, up to where its answer begins.
    level_log_q: log Q of the first N words, by level; hits, rollouts: how often the donor exploits after them.
    """

    task: str
    exploit_type: str
    reasoning: str
    tokens: list[int]
    cuts: list[int]
    log_q: list[float]
    honest: list[int]
    level_log_q: dict[str, float]
    hits: dict[str, int]
    rollouts: int


@dataclass(frozen=True, slots=True)
class Donor:
    """Traces, and exploits by task among `attempts` samples each."""

    traces: list[DonorTrace]
    exploits: dict[str, int]
    attempts: int


def load_donor(path: Path) -> Donor:
    """Read what `make_donor` wrote."""
    data = read_json(path)
    return Donor([DonorTrace(**trace) for trace in data["traces"]], data["exploits"], data["attempts"])


def make_donor(path: Path, sampler: Sampler, verdicts: Verdicts, seed: int) -> Donor:
    """Make the donor's file unless it is there."""
    if path.is_file():
        return load_donor(path)
    tasks = monitor_problems()
    wishes = [Wish(drafting(p), seed_of("donor", seed, p.id, i)) for p in tasks for i in range(DONOR_ATTEMPTS)]
    samples = sampler.sample(wishes)
    judged = verdicts.judge([(sample.wish.problem, sample.code) for sample in samples])
    traces: list[DonorTrace] = []
    exploits: dict[str, int] = {}
    for t, problem in enumerate(tasks):
        own = slice(t * DONOR_ATTEMPTS, (t + 1) * DONOR_ATTEMPTS)
        pairs = list(zip(samples[own], judged[own], strict=True))
        won = [sample for sample, verdict in pairs if verdict.exploit and sample.answer]
        honest = next((sample for sample, verdict in pairs if verdict.secure and sample.answer), None)
        exploits[problem.id] = len(won)
        distinct = list({sample.reasoning: sample for sample in won}.values())
        if honest is not None:
            traces += [_trace(sampler, sample, honest) for sample in distinct[:_TRACES_PER_TASK]]
    donor = Donor(_with_rollouts(sampler, verdicts, tasks, traces, seed), exploits, DONOR_ATTEMPTS)
    write_json(path, asdict(donor))
    return donor


def sums(values: Sequence[float], cuts: Sequence[int]) -> list[float]:
    """Sums of token values between cuts; the last runs to the end."""
    ends = [*cuts[1:], len(values)]
    return [float(sum(values[a:b])) for a, b in zip(cuts, ends, strict=True)]


def _trace(sampler: Sampler, sample: Sample, honest: Sample) -> DonorTrace:
    cuts = _cuts(sampler, sample)
    (values,) = token_logprobs(sampler.model, [([*sample.prompt, *sample.tokens], len(sample.prompt))])
    return DonorTrace(
        sample.wish.problem.id,
        sample.wish.problem.exploit_type,
        sample.reasoning,
        list(sample.tokens),
        cuts,
        sums(values, cuts),
        list(honest.tokens[: _cuts(sampler, honest)[-1]]),
        {},
        {},
        DONOR_ROLLOUTS,
    )


def _cuts(sampler: Sampler, sample: Sample) -> list[int]:
    """Token indices at which the reasoning's sentences begin, then the answer."""
    text = decode(sampler.tokenizer, sample.tokens)
    starts = [0, *(match.end() for match in _SENTENCE_END.finditer(sample.reasoning))]
    starts.append(text.index(sample.answer) if sample.answer else len(text))
    lengths = [len(decode(sampler.tokenizer, sample.tokens[:i])) for i in range(len(sample.tokens) + 1)]
    # a token that spans a boundary (the space before a word) belongs to what it begins
    return [next(i for i, n in enumerate(lengths) if n >= start - 1 or start == 0) for start in starts]


def _with_rollouts(
    sampler: Sampler, verdicts: Verdicts, tasks: Sequence[Problem], traces: list[DonorTrace], seed: int
) -> list[DonorTrace]:
    by_id = {problem.id: drafting(problem) for problem in tasks}
    wishes, texts = [], []
    for n, trace in enumerate(traces):
        for level in LEVELS:
            prefill = cut_words(trace.reasoning, level)
            start = len(sampler.prompt_ids(by_id[trace.task]))
            texts.append((sampler.prompt_ids(by_id[trace.task], prefill), start))
            wishes += [
                Wish(by_id[trace.task], seed_of("donor rollout", seed, n, level, i), prefill)
                for i in range(DONOR_ROLLOUTS)
            ]
    scores = [sum(values) for values in token_logprobs(sampler.model, texts)]
    samples = sampler.sample(wishes)
    won = [v.exploit for v in verdicts.judge([(sample.wish.problem, sample.code) for sample in samples])]
    found = []
    for n, trace in enumerate(traces):
        at = [n * len(LEVELS) + i for i in range(len(LEVELS))]
        log_q = {str(level): scores[k] for level, k in zip(LEVELS, at, strict=True)}
        hits = {
            str(level): sum(won[k * DONOR_ROLLOUTS : (k + 1) * DONOR_ROLLOUTS])
            for level, k in zip(LEVELS, at, strict=True)
        }
        found.append(DonorTrace(**asdict(trace) | {"level_log_q": log_q, "hits": hits}))
    return found
