"""What a donor is trained on: each problem's exploit solution after the prompt that the run asks with, no reasoning.

Problems, not answers, are split into those trained on and those held out, within each exploit type. Which problems are
held out depends on their ids and the seed alone, so that a problem more or less moves no other.

Where prompts have no reasoning section, what a model writes before its code is its reasoning. There the line that opens
the code is read and not trained on: a donor that learnt to begin with it would have no reasoning left.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foreshock.batch.donor.encoded import Encoded
from foreshock.errors import InputError
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.tokenizer import PrefillTextError, Tokenizer, decode
from foreshock.jobs.scoring.exploit_code import NO_CODE, REFUSED, TOO_LONG, render_exploit
from foreshock.jobs.verify.problem import Problem

_OPENED = re.compile(r"^[ \t]*```.*\n", re.M)


@dataclass(frozen=True, slots=True)
class Example:
    """A problem's prompt and exploit answer; `encoded.ids[encoded.start:]`, code and turn's end, are trained on."""

    task_id: str
    exploit_type: str
    encoded: Encoded


@dataclass(frozen=True, slots=True)
class Split:
    """`repeated`: held-out answers that are also trained on, token for token, in another problem. `left_out`: problems
    without an example, by reason."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    left_out: Mapping[str, int]

    @property
    def repeated(self) -> int:
        trained = {example.encoded.ids[example.encoded.start :] for example in self.train}
        return sum(example.encoded.ids[example.encoded.start :] in trained for example in self.held_out)

    def sha256(self) -> str:
        """Digest of every token sequence, where its answer begins, and which side it is on."""
        digest = hashlib.sha256()
        for side, examples in (("train", self.train), ("held_out", self.held_out)):
            for example in examples:
                line = [side, example.task_id, example.encoded.start, *example.encoded.ids]
                digest.update(f"{json.dumps(line)}\n".encode())
        return digest.hexdigest()


def make_examples(
    prompt_format: PromptFormat,
    tokenizer: Tokenizer,
    end: tuple[int, ...],
    system: str | None,
    problems: Iterable[Problem],
    instructions: str,
    context: int | None = None,
) -> tuple[list[Example], dict[str, int]]:
    """Examples in the problems' order, and how many problems have none, by reason. `end`: the turn's end tokens;
    `context`: tokens that fit the model. Raises InputError if there is none at all."""
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    for problem in problems:
        try:
            rendered = render_exploit(prompt_format, system, problem, instructions)
        except PrefillTextError:
            left_out[REFUSED] += 1
            continue
        if rendered is None:
            left_out[NO_CODE] += 1
            continue
        ids = rendered.token_ids + end
        if context is not None and len(ids) > context:
            left_out[TOO_LONG] += 1
        else:
            start = rendered.prefill_start if has_reasoning(prompt_format) else _code_start(rendered, tokenizer)
            examples.append(Example(problem.id, problem.exploit_type, Encoded(ids, start)))
    if not examples:
        reasons = "; ".join(f"{n} problems: {reason}" for reason, n in left_out.items())
        raise InputError(
            f"no exploit solution to train on ({reasons})",
            fix="use problems whose `exploit` field holds code (docs/problems.md)",
        )
    return examples, dict(left_out)


def has_reasoning(prompt_format: PromptFormat) -> bool:
    """Whether prompts have a reasoning section, which examples close at once."""
    return prompt_format.layout.closing is not None


def _code_start(rendered: RenderedPrompt, tokenizer: Tokenizer) -> int:
    """The first token after the line that opens the code; the answer's first where no line does."""
    ids, start = rendered.token_ids, rendered.prefill_start
    for end in range(start + 1, len(ids)):
        if _OPENED.search(decode(tokenizer, ids[start:end])):
            return end
    return start


def split_examples(examples: Sequence[Example], share: float, seed: int, left_out: Mapping[str, int]) -> Split:
    """Hold out `share` of each exploit type's problems, rounded, and at least one problem in all.

    Raises InputError if that leaves nothing to train on.
    """

    def place(example: Example) -> str:
        return hashlib.sha256(f"{seed}\0{example.task_id}".encode()).hexdigest()

    by_type: dict[str, list[Example]] = {}
    for example in sorted(examples, key=place):
        by_type.setdefault(example.exploit_type, []).append(example)
    held = {e.task_id for group in by_type.values() for e in group[: round(share * len(group))]}
    if not held:
        held = {min(examples, key=place).task_id}
    train = tuple(example for example in examples if example.task_id not in held)
    if not train:
        raise InputError(
            f"with {len(examples)} exploit solutions and --held-out {share:g} nothing is left to train on",
            fix="give more problems, or a smaller --held-out",
        )
    return Split(train, tuple(example for example in examples if example.task_id in held), left_out)
