"""One checkpoint at one level, into one file: `foreshock eval`.

It is a run of one cell with a working directory beside the output, so it resumes after a kill like any other, and
there is no second way to evaluate.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.analysis.aggregate import aggregate
from foreshock.batch.config import RunConfig
from foreshock.batch.config_file import parse_config
from foreshock.batch.planning.make_plan import make_plan, same_experiment
from foreshock.batch.running.execute import execute
from foreshock.batch.running.run import RunHooks, RunResult, create_run, require_complete, require_same_models
from foreshock.batch.site import resolve_site
from foreshock.durable import atomic_write_bytes
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import PlanFile
from foreshock.jobs.records.table_files import table_bytes


@dataclass(frozen=True, slots=True)
class EvalOutput:
    """Files written, and how many rows succeeded."""

    output: Path
    samples: Path
    n_rows: int
    n_errors: int
    n_skipped: int


def one_cell_config(checkpoint: Path, level: int, sections: dict[str, Any]) -> RunConfig:
    """The configuration of a single cell; `sections` are further configuration sections."""
    folder = checkpoint.expanduser().absolute()
    if not folder.is_dir():
        raise InputError("no such checkpoint directory", path=folder)
    if level > 0 and sections.get("prefill", {}).get("source") is None:
        raise InputError(
            f"--prefill-tokens {level} needs --prefill-from, the JSONL of exploit traces that the words are taken from",
            fix="add --prefill-from FILE, or leave out --prefill-tokens to sample without a prefill",
        )
    data: dict[str, Any] = {
        "checkpoints": {"dir": str(folder)},
        "logprob": {"enabled": False},
    } | sections
    data["prefill"] = {**data.get("prefill", {}), "levels": [level]}
    return parse_config(data)


def evaluate_one(config: RunConfig, output: Path, command: list[str], hooks: RunHooks, force: bool) -> EvalOutput:
    """Evaluate a one-cell configuration. Raises InputError if `output` is there and `force` is not given."""
    samples = output.with_name(f"{output.name}.samples.jsonl")
    if output.exists() and not force:
        raise InputError("the output is there already", path=output, fix="choose another --output, or add --force")
    layout = RunLayout(output.absolute().parent / f".{output.name}.work")
    site = resolve_site(config)
    plan = make_plan(config, image=site.image)
    if len(plan.checkpoints) > 1:
        raise InputError(
            f"holds {len(plan.checkpoints)} checkpoints; this command evaluates one",
            path=config.checkpoints.dir,
            fix=f"give one of them, for example {plan.checkpoints[-1].path}, or use foreshock run",
        )
    if layout.plan.is_file():
        stored = PlanFile.read(layout)
        changed = same_experiment(plan.file, stored)
        if changed:
            raise InputError(
                f"an unfinished evaluation with other settings lies here (differs in {', '.join(changed)})",
                path=layout.root,
                fix="remove that directory, or choose another --output",
            )
        require_same_models(stored)
    else:
        create_run(config, plan, command, layout.root)
    with hooks.display(f"eval {plan.checkpoints[0].name}") as on_snapshot:
        execution = execute(layout, plan.file, site, on_snapshot)
    require_complete(RunResult(layout, execution))
    report = aggregate(layout)
    cell = layout.eval_files()[0]
    atomic_write_bytes(samples, table_bytes(layout.samples_file(cell.cell.checkpoint, cell.cell.level)))
    atomic_write_bytes(output, table_bytes(cell.path))
    shutil.rmtree(layout.root)
    return EvalOutput(output, samples, report.n_eval, report.n_errors, report.n_skipped)
