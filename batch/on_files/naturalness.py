"""How natural traces are to the model that they are to be forced on: mean log-probability per token of their reasoning.

Traces are scored as a sweep would score them: its checkpoint, its prompts (never the words that a trace was asked for
with), its prompt format and temperature, the code that `foreshock logprob` uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from foreshock.batch.config_file import load_config
from foreshock.batch.on_files.score import PrefillSample, score_samples
from foreshock.batch.planning.checkpoints import discover_checkpoints, require_loadable
from foreshock.batch.planning.make_plan import worker_settings
from foreshock.batch.planning.problems import load_run_problems
from foreshock.batch.planning.show_prompt import chosen_checkpoint
from foreshock.errors import InputError
from foreshock.jobs.admission.admit import admit
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.engines.registry import create_engine
from foreshock.jobs.prefill import Channel, count_words, cut_prefill
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.tokenizer import PrefillTextError
from foreshock.jobs.records.rows import Row
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.scoring.levels import scoring_temperature
from foreshock.jobs.verify.registry import verifier_facts

ALL = "all"
NOT_ASKED = "of a task that is not among the sweep's problems"
NOT_FORCED = "holds what the prompt format cannot force"


@dataclass(frozen=True)
class Naturalness:
    """Of one source and exploit type (or ALL). traces: how many there are; scored, tasks, tokens: of those scored.

    logprob_per_token: nats, mean over tasks of the mean over a task's traces, with 95% limits over tasks (Student's t).
    What is None has its `reason`.
    """

    source: str
    exploit_type: str
    traces: int
    scored: int
    tasks: int
    tokens: int
    logprob_per_token: float | None
    lower95: float | None
    upper95: float | None
    reason: str | None


@dataclass(frozen=True)
class ScoredAs:
    """The sweep that traces are to be forced in: its checkpoint, how it asks, and the temperature of its scores."""

    checkpoint: Checkpoint
    prompt_format: PromptFormat
    system: str | None
    users: Mapping[str, str]
    temperature: float
    engine: Callable[[], Engine]

    @classmethod
    def of_config(cls, given: str) -> ScoredAs:
        """Of `CONFIG` or `CONFIG@STEP`; default: its first checkpoint. Nothing is loaded.

        Raises InputError for a configuration or checkpoint that a run would refuse, and for one that forces answers.
        """
        path, checkpoint = _parts(given)
        config = load_config(path)
        if config.prefill.channel == Channel.ANSWER:
            raise InputError(
                "forces answers (prefill.channel: answer), and naturalness is that of reasoning",
                path=path,
                fix="name a configuration with prefill.channel: reasoning",
            )
        found = chosen_checkpoint(discover_checkpoints(config.checkpoints), checkpoint)
        settings = worker_settings(config)
        require_loadable(found)
        admit(found, settings.engine, settings.engine_options).require()
        known = verifier_facts(config.verifier.name, config.verifier.options).exploit_types
        problems = load_run_problems(config.problems, known)
        return cls(
            found,
            run_format(settings, found),
            settings.system,
            {name: build_user_message(problem, settings.instructions) for name, problem in problems.items()},
            scoring_temperature(config.sampling.temperature),
            lambda: create_engine(settings.engine, settings.engine_options),
        )

    def facts(self) -> dict[str, Any]:
        """Plain data: what the traces were scored by."""
        return {
            "run": self.checkpoint.run,
            "checkpoint": self.checkpoint.name,
            "path": str(self.checkpoint.path),
            "prompt_format": self.prompt_format.name,
            "template_sha256": self.prompt_format.template_sha256(),
            "temperature": self.temperature,
        }


def _parts(given: str) -> tuple[Path, str | None]:
    folder, at, step = given.rpartition("@")
    return (Path(given), None) if not at or Path(given).exists() else (Path(folder), step)


def measure(
    traces: Sequence[Mapping[str, Any]], sources: Sequence[int], names: Sequence[str], by: ScoredAs
) -> list[Naturalness]:
    """Naturalness by source and exploit type, all types of a source first.

    traces: as `collect` gives them; sources: [traces], each one's place in `names`.
    """
    why: list[str | None] = [None] * len(traces)
    samples: list[PrefillSample] = []
    for number, trace in enumerate(traces):
        sample = _sample(number, trace, by)
        if isinstance(sample, str):
            why[number] = sample
        else:
            samples.append(sample)
    rows: list[Row] = []
    if samples:
        with by.engine() as engine:
            engine.load(by.checkpoint)
            rows = score_samples(engine, lambda sample: by.prompt_format, samples, by.checkpoint.name, by.temperature)
    scores = {int(row["attempt_idx"]): row for row in rows}
    table = pd.DataFrame(
        [
            {
                "source": sources[number],
                "exploit_type": str(trace.get("exploit_type") or "(not given)"),
                "task_id": trace["task_id"],
                "mean": scores.get(number, {}).get("prefill_logprob_mean"),
                "tokens": scores.get(number, {}).get("prefill_num_tokens", 0),
                "why": why[number] or scores.get(number, {}).get("error"),
            }
            for number, trace in enumerate(traces)
        ]
    ).astype({"mean": float})
    found = []
    for source, own in table.groupby("source"):
        kinds = sorted(own["exploit_type"].unique())
        parts = [(ALL, own), *((kind, own[own["exploit_type"] == kind]) for kind in kinds if len(kinds) > 1)]
        found += [_summary(names[int(str(source))], kind, part) for kind, part in parts]
    return found


def _sample(number: int, trace: Mapping[str, Any], by: ScoredAs) -> PrefillSample | str:
    """What is scored of a trace, or why it cannot be. Its number stands for the attempt, so that no two share a key."""
    user = by.users.get(trace["task_id"])
    if user is None:
        return NOT_ASKED
    words = count_words(trace["reasoning"])
    text = cut_prefill(trace["reasoning"], words).text
    try:
        by.prompt_format.render(by.system, user, text)
    except PrefillTextError:
        return NOT_FORCED
    kind, success = trace.get("exploit_type"), trace.get("exploit_success")
    return PrefillSample(trace["task_id"], number, kind, success, by.system, user, text, words, words)


def _summary(source: str, kind: str, rows: pd.DataFrame) -> Naturalness:
    scored = rows[rows["mean"].notna()]
    by_task = scored.groupby("task_id")["mean"].mean().to_numpy(np.float64)
    n, reasons = len(by_task), []
    if n == 1:
        reasons.append("one task has no interval")
    missing = Counter(rows.loc[rows["mean"].isna(), "why"])
    reasons += [f"{count} not scored: {reason}" for reason, count in missing.most_common()]
    mean = float(by_task.mean()) if n else None
    half = float(stats.t.ppf(0.975, n - 1)) * float(stats.sem(by_task)) if n > 1 else None
    return Naturalness(
        source,
        kind,
        len(rows),
        len(scored),
        n,
        int(scored["tokens"].sum()),
        mean,
        None if mean is None or half is None else mean - half,
        None if mean is None or half is None else mean + half,
        "; ".join(reasons) or None,
    )
