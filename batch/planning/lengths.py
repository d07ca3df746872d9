"""How long a run's prompts are, and which of them do not fit the model's context.

Every prompt is rendered as a worker will render it, so what cannot run is known before anything starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from foreshock.batch.config import RunConfig
from foreshock.errors import InputError
from foreshock.jobs.engines.registry import ENGINES
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.model_files.fingerprint import stated_context_length
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.records.planfile import PlanFile, WorkerSettings
from foreshock.jobs.records.spec import Checkpoint

TOO_LONG = "its prompt does not fit the model's context"


@dataclass(frozen=True)
class PromptLengths:
    """Tokens of the longest prompt of every (task, level), over the attempts that it will be sent for.

    context: tokens that fit the model, prompt and continuation together; None where no file says so, and everything is
    taken to fit. room: tokens that a continuation may have.
    """

    tokens: Mapping[tuple[str, int], int]
    context: int | None
    room: int

    def fits(self, task: str, level: int) -> bool:
        """Whether the prompt leaves room for one token at least."""
        return self.context is None or self.tokens.get((task, level), 0) < self.context

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest prompt that will be sent."""
        return max((n for (task, level), n in self.tokens.items() if self.fits(task, level)), default=0)

    @cached_property
    def too_long(self) -> frozenset[tuple[str, int]]:
        """(task, level) of the prompts that do not fit."""
        return frozenset(key for key in self.tokens if not self.fits(*key))

    @cached_property
    def n_cut_short(self) -> int:
        """Prompts that fit, with less room after them than a continuation may have."""
        if self.context is None:
            return 0
        return sum(n < self.context < n + self.room for n in self.tokens.values())

    def to_json(self) -> dict[str, Any]:
        """What a plan keeps."""
        return {
            "context": self.context,
            "longest_prompt": self.longest,
            "cut_short": self.n_cut_short,
            "too_long": sorted([task, level, self.tokens[task, level]] for task, level in self.too_long),
        }

    def require_some(self, path: Path) -> None:
        """Raise InputError if no prompt fits."""
        if self.tokens and len(self.too_long) == len(self.tokens):
            shortest = min(self.tokens.values())
            raise InputError(
                f"no prompt of this run fits the model's context of {self.context} tokens; the shortest has {shortest}",
                path=path,
                fix="use shorter problems or prefill.levels, or a model with a longer context",
            )


def planned_too_long(plan: PlanFile) -> frozenset[tuple[str, int]]:
    """(task, level) of the prompts that were found too long when the run was planned."""
    found = plan.extra.get("lengths", {}).get("too_long", ())
    return frozenset((task, level) for task, level, _ in found)


def prompt_lengths(
    config: RunConfig,
    inputs: RunInputs,
    prompt_format: PromptFormat,
    instructions: str,
    context: int | None,
) -> PromptLengths:
    """Render every prompt of a run. `instructions` as in `build_user_message`."""
    tokens: dict[tuple[str, int], int] = {}
    for task, problem in inputs.problems.items():
        user = build_user_message(problem, instructions)
        for level in config.prefill.levels:
            prefills = [inputs.prefill(task, attempt, level) for attempt in range(config.sampling.attempts)]
            distinct = {prefill.sha256: prefill for prefill in prefills if prefill is not None}
            sizes = [
                len(prefill.render(prompt_format, config.prompt.system, user).token_ids)
                for prefill in distinct.values()
            ]
            if sizes:
                tokens[task, level] = max(sizes)
    return PromptLengths(tokens, context, config.sampling.max_tokens)


def context_length(settings: WorkerSettings, checkpoints: Sequence[Checkpoint]) -> int | None:
    """The shortest context of the checkpoints, or the engine's own limit where that is shorter."""
    paths = [checkpoint.path for checkpoint in checkpoints]
    stated = [length for length in map(stated_context_length, paths) if length is not None]
    limit = settings.engine_options.get("max_model_len")
    if isinstance(limit, int) and not isinstance(limit, bool):
        stated.append(limit)
    ask = ENGINES.get(settings.engine).served_context
    for checkpoint in checkpoints if ask is not None else ():
        assert ask is not None
        served = ask(checkpoint, settings.engine_options)
        if served is None:
            break  # not up, or silent: the others will be no better
        stated.append(served)
    return min(stated, default=None)
