"""Score prefills found in samples files, one file or a whole run: `foreshock logprob`.

A cell's prefills are taken from its own samples where they exist and otherwise from the same level of another
checkpoint, since they are the same text. Such rows carry the outcome of the cell's own attempt where its eval row names
the same text, else none; the report counts them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from foreshock.batch.planning.checkpoints import list_checkpoints, one_checkpoint, require_loadable
from foreshock.errors import InputError
from foreshock.jobs.admission.admit import admit
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.engines.registry import create_engine
from foreshock.jobs.prefill import Channel, cut_prefill, require_text
from foreshock.jobs.prompts.base import PromptFormat, RenderedPrompt
from foreshock.jobs.prompts.of_run import stated_rendering
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.records.checkpoint_names import checkpoint_order
from foreshock.jobs.records.jsonl import read_jsonl, write_jsonl
from foreshock.jobs.records.layout import CellFile, CellName, RunLayout
from foreshock.jobs.records.rows import Row, error_of, text_sha256
from foreshock.jobs.records.sampled_rows import without_sample
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.records.table_files import SAMPLES, has_table, is_archived
from foreshock.jobs.records.table_writers import TablesAsMade
from foreshock.jobs.scoring.levels import LevelScore, ScoredPrefill, logprob_row, plan_scoring, scoring_temperature

SampleKey = tuple[str, int, str]
"""(task id, attempt, prompt digest): samples of several levels under one key share a forward pass."""


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """One prefill to score, with what its row keeps."""

    task_id: str
    attempt_idx: int
    exploit_type: str | None
    exploit_success: bool | None
    system: str | None
    user: str
    text: str
    words: int
    level: int
    rendering: str = ""
    """JSON of the row's `rendering`; empty where the row has none."""

    @property
    def key(self) -> SampleKey:
        """What it shares a forward pass with."""
        return (self.task_id, self.attempt_idx, text_sha256(f"{self.rendering}\0{self.system}\0{self.user}"))


@dataclass
class ScoreReport:
    """What was scored. `borrowed`: cells whose prefills came from another checkpoint, and which. n_without_sample:
    attempts without a row in a samples file, so that their prompt is not known."""

    files: list[Path] = field(default_factory=list)
    n_rows: int = 0
    n_without_prefill: int = 0
    n_failed: int = 0
    borrowed: dict[str, str] = field(default_factory=dict)
    kept: list[Path] = field(default_factory=list)
    n_without_sample: int = 0


def read_samples(
    path: Path, level: int | None, use_reasoning: bool, limit: int | None
) -> tuple[list[PrefillSample], int]:
    """Samples of one file and the number of rows without a prefill.

    With `use_reasoning` the text is the `reasoning` field cut at the level. Raises InputError naming the line of a
    row that lacks what scoring needs.
    """
    samples: list[PrefillSample] = []
    without = 0
    for number, row in read_jsonl(path):
        if error_of(row) is not None:
            continue
        if limit is not None and len(samples) >= limit:
            break
        words = level if level is not None else row.get("prefill_level", row.get("prefill_tokens"))
        if not isinstance(words, int) or isinstance(words, bool) or words < 0:
            given = "missing" if words is None else repr(words)
            raise InputError(
                f"prefill_tokens is {given}, so the row's level is unknown; valid: a number of words >= 0",
                path=path,
                line=number,
            )
        needed = ("task_id", "prompt", "reasoning" if use_reasoning else "prefill_reasoning")
        missing = [key for key in needed if row.get(key) is None]
        if missing and not (words == 0 and missing == ["prefill_reasoning"]):
            raise InputError(
                f"row lacks {', '.join(missing)}; scoring needs {', '.join(needed)}",
                path=path,
                line=number,
                fix="give the .samples.jsonl file of an evaluation, or add --use-reasoning-field",
            )
        _require_types(row, path, number)
        if row.get("prefill_channel") == Channel.ANSWER:
            raise InputError(
                "its forced words begin the answer (prefill.channel: answer), which this command does not score",
                path=path,
                line=number,
                fix="foreshock run scores them in the sweep; the run's logprob/ holds them",
            )
        source = row["reasoning"] if use_reasoning else row.get("prefill_reasoning") or ""
        require_text(source, f"{path}:{number}: the prefill")
        cut = cut_prefill(source, words)
        if cut.words == 0:
            without += 1
            continue
        samples.append(
            PrefillSample(
                task_id=row["task_id"],
                attempt_idx=row.get("attempt_idx") or 0,
                exploit_type=row.get("exploit_type"),
                exploit_success=row.get("exploit_success"),
                system=row.get("system"),
                user=row["prompt"],
                text=cut.text,
                words=cut.words,
                level=words,
                rendering=json.dumps(row["rendering"], sort_keys=True) if row.get("rendering") else "",
            )
        )
    return samples, without


def _require_types(row: Row, path: Path, number: int) -> None:
    texts = ("task_id", "prompt", "system", "reasoning", "prefill_reasoning", "exploit_type")
    wrong = [key for key in texts if not isinstance(row.get(key), str | None)]
    if not isinstance(row.get("attempt_idx"), int | None):
        wrong.append("attempt_idx")
    if not isinstance(row.get("exploit_success"), bool | None):
        wrong.append("exploit_success")
    if not isinstance(row.get("rendering"), dict | None):
        wrong.append("rendering")
    if wrong:
        raise InputError(
            f"{wrong[0]} is {row[wrong[0]]!r}, of the wrong type; texts are strings, attempt_idx is a number, "
            "exploit_success is true, false or null, rendering an object",
            path=path,
            line=number,
        )


def score_samples(
    engine: Engine,
    format_of: Callable[[PrefillSample], PromptFormat],
    samples: Sequence[PrefillSample],
    checkpoint: str,
    temperature: float,
) -> list[Row]:
    """Logprob rows of samples, in their order; one forward pass per distinct trace. `format_of` renders a sample as the
    run did that it comes from."""
    rendered: dict[SampleKey, dict[int, RenderedPrompt]] = {}
    for sample in samples:
        levels = rendered.setdefault(sample.key, {})
        levels.setdefault(sample.level, format_of(sample).render(sample.system, sample.user, sample.text))
    plan = plan_scoring(rendered, engine.covers)
    scores = plan.collect(engine.score(plan.requests, temperature))
    return [
        _row(sample, scores[sample.key][sample.level], checkpoint, temperature, format_of(sample).template_sha256())
        for sample in samples
    ]


def _row(sample: PrefillSample, score: LevelScore, checkpoint: str, temperature: float, template: str) -> Row:
    scored = ScoredPrefill(
        task_id=sample.task_id,
        exploit_type=sample.exploit_type,
        attempt_idx=sample.attempt_idx,
        words=sample.words,
        level=sample.level,
        sha256=text_sha256(sample.text),
        checkpoint=checkpoint,
        template_sha256=template,
        temperature=temperature,
        exploit_success=sample.exploit_success,
    )
    return logprob_row(scored, score)


@dataclass
class RunScorer:
    """Scores a whole run's prefills under the checkpoints of a training run; if the run's tables lie in archives, the
    new ones come into some, too."""

    run: RunLayout
    checkpoints: Sequence[Checkpoint]
    output: Path
    engine: Engine
    format_of: Callable[[Checkpoint], Callable[[PrefillSample], PromptFormat]]
    temperature: float
    use_reasoning: bool = False
    max_samples: int | None = None
    force: bool = False
    only: frozenset[CellName] | None = None
    """Cells to score; None for every level of every checkpoint."""
    on_checkpoint: Callable[[str], None] = lambda name: None

    def score(self) -> ScoreReport:
        """Write one logprob file per checkpoint and level into `output`; files that are there are kept unless `force`.

        Raises:
            InputError: no samples at all above level 0, or none of a level that was evaluated.
        """
        by_level: dict[int, dict[str, Path]] = {}
        levels: set[int] = set()
        for file in self.run.eval_files():
            if file.cell.level == 0:
                continue
            levels.add(file.cell.level)
            samples = self._samples_of(file)
            if samples is not None:
                by_level.setdefault(file.cell.level, {})[file.cell.checkpoint] = samples
        lacking = sorted(levels - set(by_level))
        if lacking or not levels:
            which = f"level {', '.join(map(str, lacking))}" if lacking else "any level above 0"
            raise InputError(
                f"no checkpoint has samples of {which}, so there is nothing to score there; scoring needs prompts, "
                "which lie in *.jsonl.samples.jsonl",
                path=self.run.evals,
            )
        report = ScoreReport()
        archived = any(is_archived(path) for files in by_level.values() for path in files.values())
        tables = TablesAsMade(self.output, archived)
        for checkpoint in self.checkpoints:
            self.on_checkpoint(checkpoint.name)
            n_before = len(report.files)
            self._score_checkpoint(checkpoint, by_level, report)
            for path in report.files[n_before:]:
                tables.made(path)
        tables.finish()
        return report

    def _samples_of(self, file: CellFile) -> Path | None:
        """Where a cell's prompts and prefills lie: beside its eval file, or in it, as some tools write them."""
        path = self.run.samples_file(file.cell.checkpoint, file.cell.level)
        if has_table(path):
            return path
        first = next((row for _, row in read_jsonl(file.path)), {})
        return file.path if "prompt" in first else None

    def _score_checkpoint(
        self, checkpoint: Checkpoint, by_level: dict[int, dict[str, Path]], report: ScoreReport
    ) -> None:
        samples: list[PrefillSample] = []
        for level, files in sorted(by_level.items()):
            if self.only is not None and CellName(checkpoint.name, level) not in self.only:
                continue
            target = self._target(checkpoint.name, level)
            if has_table(target) and not self.force:
                report.kept.append(target)
                continue
            own = files.get(checkpoint.name)
            donor = checkpoint.name if own else min(files, key=checkpoint_order)
            found, without = read_samples(files[donor], level, self.use_reasoning, self.max_samples)
            report.n_without_prefill += without
            if own is not None and own.name.endswith(SAMPLES):
                report.n_without_sample += without_sample(self.run.eval_file(checkpoint.name, level))
            if own is None:
                report.borrowed[f"{checkpoint.name} at {level} words"] = donor
                found = self._with_own_outcomes(found, checkpoint.name, level)
            samples += found
        if not samples:
            return
        self.engine.load(checkpoint)
        rows = score_samples(self.engine, self.format_of(checkpoint), samples, checkpoint.name, self.temperature)
        for level in sorted({row["prefill_level"] for row in rows}):
            target = self._target(checkpoint.name, level)
            own_rows = [row for row in rows if row["prefill_level"] == level]
            write_jsonl(target, own_rows)
            report.files.append(target)
            report.n_rows += len(own_rows)
            report.n_failed += sum(1 for row in own_rows if "error" in row)

    def _target(self, checkpoint: str, level: int) -> Path:
        return self.output / self.run.logprob_file(checkpoint, level).name

    def _with_own_outcomes(self, samples: Sequence[PrefillSample], checkpoint: str, level: int) -> list[PrefillSample]:
        """Another checkpoint's prefills with this one's outcomes, of attempts whose eval row has the same text."""
        path = self.run.eval_file(checkpoint, level)
        known: dict[tuple[str, int, str], bool | None] = {}
        for _, row in read_jsonl(path) if has_table(path) else ():
            text, outcome = row.get("prefill_reasoning"), row.get("exploit_success")
            if isinstance(text, str) and isinstance(outcome, bool) and error_of(row) is None:
                known[row.get("task_id", ""), row.get("attempt_idx") or 0, cut_prefill(text, level).text] = outcome
        return [
            replace(sample, exploit_success=known.get((sample.task_id, sample.attempt_idx, sample.text)))
            for sample in samples
        ]


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """Options of both forms of the command."""

    temperature: float
    prompt_format: str
    device: str
    dtype: str
    batch_size: int
    use_reasoning: bool
    max_samples: int | None
    force: bool
    base_url: str | None = None
    served_model: str | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict)
    opening: str | None = None
    closing: str | None = None

    def engine(self) -> Engine:
        """The scoring engine."""
        return create_engine(*self._named())

    def _named(self) -> tuple[str, dict[str, Any]]:
        """Name and options of the scoring engine."""
        if self.base_url is not None or self.served_model is not None:
            return "openai", {"base_url": self.base_url or "", "model": self.served_model}
        return "transformers", {"device": self.device, "dtype": self.dtype, "batch_size": self.batch_size}

    def require_admitted(self, checkpoint: Checkpoint) -> None:
        """Raise InputError for a checkpoint that a run would not admit: nothing stands between it and a score here."""
        require_loadable(checkpoint)
        admit(checkpoint, *self._named()).require()

    def format_of(self, checkpoint: Checkpoint) -> Callable[[PrefillSample], PromptFormat]:
        """The prompt format of a checkpoint for a sample: with these options, else the settings that its row names."""

        @lru_cache(maxsize=64)
        def made(rendering: str, system: str | None) -> PromptFormat:
            name, stated = stated_rendering(json.loads(rendering) if rendering else {})
            settings = replace(
                stated,
                template_args={**stated.template_args, **self.template_args},
                opening=stated.opening if self.opening is None else self.opening,
                closing=stated.closing if self.closing is None else self.closing,
            )
            found = checkpoint_format(self.prompt_format, checkpoint, settings, system)
            chosen = self.prompt_format == "auto" and name not in ("auto", found.name)
            if chosen and "harmony" not in (name, found.name):  # else the row is of another model's family
                return checkpoint_format(name, checkpoint, settings, system)
            return found

        return lambda sample: made(sample.rendering, sample.system)


def score_one_file(samples: Path, checkpoint: Path, output: Path, options: ScoreOptions) -> ScoreReport:
    """Score one samples file under one checkpoint."""
    if output.exists() and not options.force:
        raise InputError("the output is there already", path=output, fix="choose another --output, or add --force")
    model = one_checkpoint(checkpoint)
    found, without = read_samples(samples, None, options.use_reasoning, options.max_samples)
    if not found:
        raise InputError(
            f"no row has a prefill ({without} rows at level 0), so there is nothing to score", path=samples
        )
    options.require_admitted(model)
    with options.engine() as engine:
        engine.load(model)
        temperature = scoring_temperature(options.temperature)
        rows = score_samples(engine, options.format_of(model), found, model.name, temperature)
    write_jsonl(output, rows)
    return ScoreReport([output], len(rows), without, sum(1 for row in rows if "error" in row))


def score_run(run_dir: Path, sft_run_dir: Path, output_dir: Path | None, options: ScoreOptions) -> ScoreReport:
    """Score every cell of a run under every checkpoint of a training run."""
    if not run_dir.is_dir():
        raise InputError("no such run directory", path=run_dir)
    folder = sft_run_dir / "checkpoints" if (sft_run_dir / "checkpoints").is_dir() else sft_run_dir
    checkpoints = list_checkpoints(folder, sft_run_dir.name)
    for checkpoint in checkpoints:
        options.require_admitted(checkpoint)
    with options.engine() as engine:
        return RunScorer(
            run=RunLayout(run_dir),
            checkpoints=checkpoints,
            output=RunLayout(output_dir or run_dir).logprob,
            engine=engine,
            format_of=options.format_of,
            temperature=scoring_temperature(options.temperature),
            use_reasoning=options.use_reasoning,
            max_samples=options.max_samples,
            force=options.force,
        ).score()
