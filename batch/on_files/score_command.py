"""What `foreshock logprob` does: one samples file, or every cell of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreshock.batch.on_files.score import RunScorer, ScoreReport, read_samples, score_samples
from foreshock.batch.planning.checkpoints import list_checkpoints, require_loadable
from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.engines.factory import create_engine
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.jsonl import write_jsonl
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.score import scoring_temperature
from foreshock.jobs.spec import Checkpoint


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

    def engine(self) -> Engine:
        """The scoring engine."""
        if self.base_url is not None or self.served_model is not None:
            return create_engine("openai", {"base_url": self.base_url or "", "model": self.served_model})
        return create_engine(
            "transformers", {"device": self.device, "dtype": self.dtype, "batch_size": self.batch_size}
        )

    def format_of(self, checkpoint: Checkpoint) -> PromptFormat:
        """The prompt format of a checkpoint's tokenizer."""
        return select_format(self.prompt_format, load_tokenizer(checkpoint.path))


def score_one_file(samples: Path, checkpoint: Path, output: Path, options: ScoreOptions) -> ScoreReport:
    """Score one samples file under one checkpoint."""
    if output.exists() and not options.force:
        raise InputError("the output is there already", path=output, fix="choose another --output, or add --force")
    if not checkpoint.is_dir():
        raise InputError("no such checkpoint directory", path=checkpoint)
    try:
        model = Checkpoint(checkpoint.parent.name, Checkpoint.step_of(checkpoint.name), checkpoint)
    except ValueError as error:
        raise InputError(str(error), path=checkpoint) from None
    require_loadable(model)
    found, without = read_samples(samples, None, options.use_reasoning, options.max_samples)
    if not found:
        raise InputError(
            f"no row has a prefill ({without} rows at level 0), so there is nothing to score", path=samples
        )
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
        require_loadable(checkpoint)
    with options.engine() as engine:
        return RunScorer(
            run=RunLayout(run_dir),
            checkpoints=checkpoints,
            output=RunLayout(output_dir or run_dir),
            engine=engine,
            format_of=options.format_of,
            temperature=scoring_temperature(options.temperature),
            use_reasoning=options.use_reasoning,
            max_samples=options.max_samples,
            force=options.force,
        ).score()
