"""`foreshock plan --emit-sbatch DIR`: a run directory, and the scripts that do its work, for a person to submit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foreshock.batch.config import RunConfig
from foreshock.batch.executors.slurm import SlurmExecutor
from foreshock.batch.packing.measured import pack_tasks
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.running.run import create_run
from foreshock.batch.site import resolve_site
from foreshock.jobs.records.layout import RunLayout
from foreshock.jobs.records.planfile import write_pack


def emit_run(config: RunConfig, command: Sequence[str], folder: Path) -> RunLayout:
    """Create the run, pack it, and write scripts and `submit.sh` into `folder`; nothing is submitted."""
    site = resolve_site(config)
    site.require_seen_image(strict=config.execution.strict)
    plan = make_plan(config, image=site.image)
    layout = create_run(config, plan, command)
    tasks = pack_tasks(list(plan.file.specs), site, layout, plan.file)
    SlurmExecutor(site).emit(layout, write_pack(layout, tasks), tasks, folder)
    return layout
