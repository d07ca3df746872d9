"""What a donor would be trained from, found without loading a model: target, examples, settings, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foreshock.batch.config import RunConfig
from foreshock.batch.donor.examples import Example, Split, has_reasoning, make_examples, split_examples
from foreshock.batch.donor.settings import StopOn, TrainingSettings
from foreshock.batch.planning.checkpoints import discover_checkpoints
from foreshock.batch.planning.make_plan import worker_settings
from foreshock.batch.planning.problems import load_run_problems
from foreshock.batch.planning.show_prompt import chosen_checkpoint
from foreshock.errors import InputError
from foreshock.jobs.admission.admit import admit
from foreshock.jobs.model_files.fingerprint import model_fingerprint, stated_context_length
from foreshock.jobs.prompts.of_run import prompt_settings, run_format
from foreshock.jobs.prompts.tokenizer import decode, load_tokenizer
from foreshock.jobs.prompts.turn_end import turn_end
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.verify.problem import Problem
from foreshock.jobs.verify.registry import verifier_facts

if TYPE_CHECKING:
    from foreshock.batch.donor.rate import Draws

_TOKENS_ON_CPU = 256
"""Of an answer that is drawn to tell the exploit rate, at most: longer ones would take longer than the training."""
_CLOSED = "a section that is closed at once"
_BEFORE_CODE = "what comes before the code; the line that opens it is not trained on"


@dataclass(frozen=True)
class DonorPlan:
    """`prompt`: how the examples are rendered. `problems_source`: where they come from. `draws`: answers that tell the
    exploit rate; None where the loss decides."""

    target: Checkpoint
    target_fingerprint: str
    split: Split
    settings: TrainingSettings
    prompt: dict[str, Any]
    problems_source: dict[str, Any]
    device: str
    dtype: str
    threads: int | None
    output: Path
    problems: Mapping[str, Problem]
    draws: Draws | None = None

    @property
    def first(self) -> Example:
        """An example to show."""
        return self.split.train[0]

    def identity(self) -> dict[str, Any]:
        """All that decides the donor's weights, for the recipe and to tell whether a training may go on."""
        split = self.split
        return {
            "target": {
                "run": self.target.run,
                "checkpoint": self.target.name,
                "path": str(self.target.path),
                "fingerprint": self.target_fingerprint,
            },
            "data": {
                **self.problems_source,
                "sha256": split.sha256(),
                "train": [example.task_id for example in split.train],
                "held_out": [example.task_id for example in split.held_out],
                "held_out_answers_also_trained_on": split.repeated,
                "answer_tokens": sum(len(e.encoded.ids) - e.encoded.start for e in split.train),
                "left_out": dict(split.left_out),
            },
            "prompt": self.prompt,
            "settings": self.settings.to_json(),
            "draws": None if self.draws is None else self.draws.to_json(),
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
        }

    def sha256(self) -> str:
        """Digest of what decides the weights; where the files lie plays no part."""
        identity = self.identity()
        parts = [
            self.target_fingerprint,
            identity["data"]["sha256"],
            identity["settings"],
            identity["draws"],
            identity["device"],
            self.dtype,
            self.threads,
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def shown_example(self) -> dict[str, str]:
        """The first example as text: what is read, and what is trained on."""
        tokenizer, encoded = load_tokenizer(self.target.tokenizer_path), self.first.encoded
        read, trained = encoded.ids[: encoded.start], encoded.ids[encoded.start :]
        return {
            "task_id": self.first.task_id,
            "prompt": decode(tokenizer, read),
            "trained_on": decode(tokenizer, trained),
        }


def plan_donor(
    config: RunConfig,
    settings: TrainingSettings,
    checkpoint: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    sample_tokens: int | None = None,
    problems: Mapping[str, Problem] | None = None,
) -> DonorPlan:
    """Check everything that can be checked without a forward pass.

    device: of the machine that will train, where it is not this one. sample_tokens: longest answer that tells the
    exploit rate; default: the configuration's, on a CPU at most 256. problems: in place of the configuration's, which a
    node may not reach.

    Raises InputError for an unknown or unusable target, problems without exploit solutions, LoRA without peft, a
    device that is not there.
    """
    from foreshock.batch.donor.model import require_trainable

    target = chosen_checkpoint(discover_checkpoints(config.checkpoints), checkpoint)
    require_trainable(target, settings.method)
    admit(target, "transformers", {}).require()
    workers = worker_settings(config)
    prompt_format = run_format(workers, target)
    tokenizer = load_tokenizer(target.tokenizer_path)
    end = turn_end(prompt_format, tokenizer, prompt_settings(workers), workers.system)
    problems = load_run_problems(config.problems, None) if problems is None else problems
    examples, left_out = make_examples(
        prompt_format,
        tokenizer,
        end,
        workers.system,
        problems.values(),
        workers.instructions,
        stated_context_length(target.path),
    )
    split = split_examples(examples, settings.held_out, settings.seed, left_out)
    place = output if output is not None else config.results_dir / "donors" / f"{target.run}-{target.name}"
    device = device or _own_device(config)
    draws = None
    if settings.stop_on is StopOn.EXPLOIT_RATE:
        from foreshock.batch.donor.rate import plan_draws

        try:
            verifier_facts(workers.verifier, config.verifier.options)
        except InputError as error:
            raise InputError(
                f"{error}\n  -> or stop by the held-out loss, without a verifier: --stop-on loss"
            ) from error
        most = config.sampling.max_tokens if sample_tokens is None else sample_tokens
        if sample_tokens is None and device.startswith("cpu"):
            most = min(most, _TOKENS_ON_CPU)
        draws = plan_draws(config, workers, problems, split.held_out, settings.samples, most)
    return DonorPlan(
        target=target,
        target_fingerprint=model_fingerprint(target.path),
        split=split,
        settings=settings,
        prompt={
            "format": prompt_format.name,
            "template_sha256": prompt_format.template_sha256(),
            "system": workers.system,
            "instructions": workers.instructions,
            "turn_end": list(end),
            "reasoning": _CLOSED if has_reasoning(prompt_format) else _BEFORE_CODE,
        },
        problems_source={"source": config.problems.source, "split": config.problems.split},
        device=device,
        dtype=config.engine.dtype,
        threads=config.engine.threads,
        output=_free_path(place.expanduser().absolute(), target),
        problems=problems,
        draws=draws,
    )


def _own_device(config: RunConfig) -> str:
    from foreshock.jobs.engines.transformers import TransformersEngine

    # the one place that knows what `auto` means; nothing is loaded
    return str(TransformersEngine(config.engine.device, config.engine.dtype).device)


def _free_path(output: Path, target: Checkpoint) -> Path:
    if output == target.path or output in target.path.parents or target.path in output.parents:
        raise InputError("the output would lie in the model under test, or hold it", path=output, fix="give --output")
    if output.is_file():
        raise InputError("the output is a file; a donor is a directory", path=output, fix="give another --output")
    return output
