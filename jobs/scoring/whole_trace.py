"""Scoring whole exploit traces: all of the reasoning, what ends it, and the exploit's code as the answer.

A level's score ends where its words end, long before the code; the whole trace is what the model would have to write to
exploit. Sentences are summed apart, since training moves the one at which the reasoning turns. It costs the tokens
behind the longest level, in the same forward pass.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prefill import PrefillTrace
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.tokenizer import PrefillTextError
from foreshock.jobs.records.rows import Row, text_sha256
from foreshock.jobs.scoring.exploit_code import exploit_answer
from foreshock.jobs.scoring.levels import LevelScore
from foreshock.jobs.verify.problem import Problem

WHOLE = 2**31
"""Stands for the level in a scoring plan."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True, slots=True)
class WholeTrace:
    """A trace ready to score. cuts: tokens of the trace at which its sentences begin, then its answer."""

    prompt: RenderedPrompt
    cuts: tuple[int, ...]


def trace_digest(inputs: RunInputs, instructions: str, task: str, attempt: int, level: int) -> str | None:
    """What is scored as a row's whole trace, for a spec's identity."""
    prefill = inputs.prefill(task, attempt, level)
    if prefill is None or prefill.trace is None or prefill.trace.answer is not None:
        return None
    return text_sha256(f"{prefill.trace.reasoning}\0{exploit_answer(inputs.problems[task], instructions)}")


def render_whole(
    prompt_format: PromptFormat, system: str | None, instructions: str, trace: PrefillTrace, problem: Problem
) -> WholeTrace | None:
    """The whole trace behind the prompt; None where there is no code, or no reasoning section to write it in."""
    answer, user = exploit_answer(problem, instructions), build_user_message(problem, instructions)
    if answer is None:
        return None
    reasoning = trace.reasoning.rstrip()
    start = len(prompt_format.render(system, user, "").token_ids)
    try:
        rendered = prompt_format.render_answer(system, user, reasoning, answer)
    except PrefillTextError:
        return None
    ids = rendered.token_ids
    ends = [match.end() for match in _SENTENCE_END.finditer(reasoning) if match.end() < len(reasoning)]
    cuts = [0]
    for end in ends:
        part = prompt_format.render(system, user, reasoning[:end].rstrip()).token_ids
        cuts.append(max(cuts[-1], _shared(ids, part) - start))
    whole = RenderedPrompt(ids, start, rendered.text, rendered.conversation)
    return WholeTrace(whole, (*cuts, rendered.prefill_start - start))


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def trace_fields(whole: WholeTrace | None, score: LevelScore | None) -> Row:
    """The row fields of a whole trace; null where it was not scored."""
    empty: Row = dict.fromkeys(("trace_logprob_sum", "trace_num_tokens", "trace_code_logprob", "trace_sentences"))
    if whole is None or score is None or score.error is not None:
        return empty
    values = score.token_logprobs
    ends = (*whole.cuts[1:], len(values))
    sums = [math.fsum(values[a:b]) for a, b in zip(whole.cuts, ends, strict=True)]
    return {
        "trace_logprob_sum": math.fsum(values),
        "trace_num_tokens": len(values),
        "trace_code_logprob": sums[-1],
        "trace_sentences": sums[:-1],
    }
