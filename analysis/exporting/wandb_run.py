"""A Weights & Biases run, written offline: settings, rates by training step, report and tables."""

from __future__ import annotations

import shutil
from pathlib import Path

from foreshock.analysis.exporting.series import track
from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.errors import InputError


def write_wandb(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """An offline run below `folder`; `wandb sync` sends it."""
    try:
        import wandb
    except ImportError:
        raise InputError("wandb is not installed", fix="pip install 'foreshock[wandb]'") from None
    run = track(run_dir)
    with wandb.init(
        project="foreshock",
        name=run.name,
        dir=str(folder.resolve()),
        mode="offline",
        config=run.settings,
        settings=wandb.Settings(silent=True, disable_git=True, save_code=False, console="off"),
    ) as tracked:
        tracked.define_metric("checkpoint")
        tracked.define_metric("*", step_metric="checkpoint")
        for step, values in run.by_step().items():
            tracked.log({"checkpoint": step} | values)
        tracked.summary.update(run.final())
        for done, (path, below) in enumerate(run.files, start=1):
            copy = Path(tracked.dir) / below / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            tracked.save(str(copy), base_path=tracked.dir, policy="now")
            on_progress(done, len(run.files))
    return sorted(path for path in folder.rglob("*") if path.is_file())


SPEC = ExporterSpec(
    "wandb", "a Weights & Biases run, offline; `wandb sync FOLDER/wandb/offline-run-*` sends it", write_wandb
)
