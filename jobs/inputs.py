"""What a run's workers compute from: problems and prefill traces, frozen in the run when it was planned.

Workers read copies inside the run directory, never the user's files, so that editing a source while a sweep is queued
cannot mix two experiments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from foreshock.jobs.honest import HonestReasoning, read_honest, write_honest
from foreshock.jobs.prefill import Channel, PrefillTrace
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.records.jsonl import read_rows, write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.rows import text_sha256
from foreshock.jobs.verify.problem import Problem

SHARED = "shared"
PER_ATTEMPT = "per_attempt"


@dataclass(frozen=True, slots=True)
class Prefill:
    """The text forced on one row; `words` actually applied (fewer than the level when the trace is short).

    `reasoning` None: the text begins the reasoning. Else it begins the answer, after this reasoning.
    """

    text: str
    words: int
    trace: PrefillTrace | None
    reasoning: str | None = None

    @property
    def sha256(self) -> str:
        """Digest of all that is forced; part of the row's identity."""
        return text_sha256(self.text if self.reasoning is None else f"{self.reasoning}\0{self.text}")

    @property
    def channel(self) -> str | None:
        """Where the text stands; None where none is forced."""
        if not self.words:
            return None
        return (Channel.REASONING if self.reasoning is None else Channel.ANSWER).value

    def render(self, prompt_format: PromptFormat, system: str | None, user: str) -> RenderedPrompt:
        """The conversation with the text forced. Raises as the format does."""
        if self.reasoning is None:
            return prompt_format.render(system, user, self.text)
        return prompt_format.render_answer(system, user, self.reasoning, self.text)


NO_PREFILL = Prefill("", 0, None)


def forced(trace: PrefillTrace, level: int) -> Prefill:
    """What a trace forces at a level."""
    if level == 0:
        return NO_PREFILL
    cut = trace.cut(level)
    return Prefill(cut.text, cut.words, trace, None if trace.answer is None else trace.reasoning)


@dataclass(frozen=True)
class RunInputs:
    """Problems, traces and honest reasoning of a run.

    Attempt indices at or above `n_attempts` are further rollouts of attempt `index % n_attempts`.
    """

    problems: Mapping[str, Problem]
    traces: Mapping[str, Sequence[PrefillTrace]]
    assignment: str
    n_attempts: int
    honest: Mapping[str, HonestReasoning] = field(default_factory=dict, kw_only=True)

    def prefill(self, task_id: str, attempt: int, level: int) -> Prefill | None:
        """The prefill of a row; None if the task has no trace and the level is above 0."""
        if level == 0:
            return NO_PREFILL
        traces = self.traces.get(task_id)
        if not traces:
            return None
        own = attempt % self.n_attempts
        trace = traces[own % len(traces)] if self.assignment == PER_ATTEMPT else traces[0]
        return forced(trace, level)

    def write(self, layout: RunLayout) -> None:
        """Freeze the inputs in a run directory."""
        write_jsonl(layout.problems, (asdict(problem) for problem in self.problems.values()))
        write_jsonl(layout.prefills, (_trace_row(trace) for traces in self.traces.values() for trace in traces))
        if self.honest:
            write_honest(layout.honest, self.honest.values())

    @classmethod
    def read(cls, layout: RunLayout, assignment: str, n_attempts: int) -> RunInputs:
        """Read what `write` froze."""
        problems = {row["id"]: Problem(**row) for row in read_rows(layout.problems, ("id",))}
        traces: dict[str, list[PrefillTrace]] = {}
        if layout.prefills.is_file():
            for row in read_rows(layout.prefills, ("task_id", "reasoning")):
                traces.setdefault(row["task_id"], []).append(PrefillTrace(**row))
        return cls(problems, traces, assignment, n_attempts, honest=read_honest(layout.honest))


def _trace_row(trace: PrefillTrace) -> dict[str, Any]:
    return asdict(trace)
