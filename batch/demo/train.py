"""Raise the demo's organism: base training, then an exploit and a control fine-tuning with log-spaced checkpoints, and
a donor out of the checkpoint that both begin with.

The control run differs from the exploit run in its examples only (same start, steps, batch, learning rate), so that
what differs between them later is the exploit examples' doing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from foreshock.batch.demo.corpus import Phase, make_items
from foreshock.batch.demo.encoding import encode
from foreshock.batch.demo.recipe import Recipe
from foreshock.batch.demo.run_store import build, is_finished
from foreshock.batch.demo.tokenizer import train_tokenizer
from foreshock.jobs.quiet_bars import no_library_bars
from foreshock.jobs.records.layout import ResultsLayout

RUN_NAMES = {
    Phase.BASE: "demo-base",
    Phase.EXPLOIT: "demo-exploit",
    Phase.CONTROL: "demo-control",
    Phase.DONOR: "demo-donor",
}
_TOKENIZER_ITEMS = 2000


class TrainProgress(Protocol):
    """Told after every optimiser step; a phase that is found finished is reported once, with done == total."""

    def __call__(self, phase: Phase, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class OrganismPaths:
    """The two fine-tuning runs and the donor: each directory holds `checkpoint-{N}` folders, the donor's the last."""

    exploit_dir: Path
    control_dir: Path
    donor_dir: Path


def train_organism(
    root: Path, seed: int, progress: TrainProgress | None = None, recipe: Recipe | None = None
) -> OrganismPaths:
    """Train whatever is not there yet under `root` (a results directory) and return where it is.

    Same seed, recipe, number of threads and library versions: same weights, bit for bit. Raises InputError if a
    run exists there that another recipe made or that was changed.
    """
    recipe = replace(recipe or Recipe(), seed=seed)
    report = progress or (lambda phase, done, total: None)
    layout = ResultsLayout(root)
    for phase in Phase:
        run_dir = layout.checkpoints(RUN_NAMES[phase]).parent
        total = recipe.schedule(phase).steps
        if is_finished(run_dir, recipe.sha256()):
            report(phase, total, total)
        else:
            _train_phase(phase, run_dir, layout, recipe, report)
    tuned = (Phase.EXPLOIT, Phase.CONTROL, Phase.DONOR)
    return OrganismPaths(*(layout.checkpoints(RUN_NAMES[phase]) for phase in tuned))


def train_base(root: Path, recipe: Recipe, progress: TrainProgress | None = None) -> Path:
    """Train the base model alone, unless it is there, and return its checkpoint; raises as `train_organism`."""
    report = progress or (lambda phase, done, total: None)
    layout = ResultsLayout(root)
    run_dir = layout.checkpoints(RUN_NAMES[Phase.BASE]).parent
    if not is_finished(run_dir, recipe.sha256()):
        _train_phase(Phase.BASE, run_dir, layout, recipe, report)
    return _base_checkpoint(layout, recipe)


_Builder = Callable[[Path, Recipe, TrainProgress], None]


def _train_phase(phase: Phase, run_dir: Path, layout: ResultsLayout, recipe: Recipe, report: TrainProgress) -> None:
    # torch takes seconds to import; a demo that is already trained must not wait for it
    from foreshock.batch.donor.encoded import deterministic

    builder = _base if phase is Phase.BASE else _fine_tune(phase, layout)
    with no_library_bars(), deterministic(recipe.threads):
        build(run_dir, recipe.sha256(), lambda folder: builder(folder, recipe, report))


def _base(folder: Path, recipe: Recipe, report: TrainProgress) -> None:
    """Train tokenizer and model from nothing; one checkpoint, the last."""
    from foreshock.batch.demo.training import new_model, train

    items = make_items(Phase.BASE, recipe.n_items(Phase.BASE), recipe.seed)
    tokenizer = train_tokenizer(items[:_TOKENIZER_ITEMS])
    model = new_model(tokenizer, recipe.seed)
    steps = recipe.base.steps
    train(
        model,
        encode(items, tokenizer),
        recipe.base,
        recipe.seed,
        lambda step: report(Phase.BASE, step, steps),
    )
    _save(model, tokenizer, folder / "checkpoints" / f"checkpoint-{steps}")


def _base_checkpoint(layout: ResultsLayout, recipe: Recipe) -> Path:
    return layout.checkpoints(RUN_NAMES[Phase.BASE]) / f"checkpoint-{recipe.base.steps}"


def _fine_tune(phase: Phase, layout: ResultsLayout) -> _Builder:
    """A builder that starts from the base run's checkpoint and saves at the recipe's steps; step 0 is the base."""

    def write(folder: Path, recipe: Recipe, report: TrainProgress) -> None:
        from foreshock.batch.demo.training import train
        from foreshock.jobs.engines.model_classes import AutoModelForCausalLM, AutoTokenizer

        start = _base_checkpoint(layout, recipe)
        tokenizer = AutoTokenizer.from_pretrained(start)
        model = AutoModelForCausalLM.from_pretrained(start)
        encoded = encode(make_items(phase, recipe.n_items(phase), recipe.seed), tokenizer)
        saves = recipe.saves[-1:] if phase is Phase.DONOR else recipe.saves

        def after_step(step: int) -> None:
            if step in saves:
                _save(model, tokenizer, folder / "checkpoints" / f"checkpoint-{step}")
            report(phase, step, recipe.fine_tune.steps)

        if 0 in saves:
            _save(model, tokenizer, folder / "checkpoints" / "checkpoint-0")
        train(model, encoded, recipe.fine_tune, recipe.seed, after_step)

    return write


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
