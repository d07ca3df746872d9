"""An MLflow run: settings as parameters, rates as metrics by training step, report and tables as artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foreshock.analysis.exporting.series import TrackedRun, track
from foreshock.analysis.exporting.spec import ExporterSpec, OnProgress
from foreshock.errors import InputError

_BATCH = 500
"""Entities that one call to MLflow may hold are 1,000; parameters 100."""
_LONGEST = 500
"""Characters of a parameter's value that every MLflow server takes."""


def write_mlflow(run_dir: Path, folder: Path, on_progress: OnProgress) -> list[Path]:
    """A store below `folder`: mlflow.db and artifacts/ (MLflow no longer takes stores of plain files)."""
    root = folder.resolve()
    _log(run_dir, f"sqlite:///{root}/mlflow.db", (root / "artifacts").as_uri(), on_progress)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def send_mlflow(run_dir: Path, folder: Path, uri: str) -> str:
    """The same run on a tracking server. Returns where it is."""
    return _log(run_dir, uri, None, lambda done, total: None)


def _log(run_dir: Path, uri: str, artifacts: str | None, on_progress: OnProgress) -> str:
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise InputError("mlflow is not installed", fix="pip install 'foreshock[mlflow]'") from None
    run = track(run_dir)
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name("foreshock")
        if experiment is None:
            experiment_id = client.create_experiment("foreshock", artifact_location=artifacts)
        else:
            experiment_id = experiment.experiment_id
        created = client.create_run(experiment_id, run_name=run.name)
        run_id = created.info.run_id
        start = created.info.start_time
        params = [Param(key, str(value)[:_LONGEST]) for key, value in run.settings.items()]
        metrics = [Metric(n.series, n.value, start, n.step) for n in run.numbers if n.step is not None]
        tags = [RunTag("foreshock.run", run.name)] + [RunTag(k, repr(v)) for k, v in run.final().items()]
        for i in range(0, len(params), 100):
            client.log_batch(run_id, params=params[i : i + 100])
        for i in range(0, len(tags), 100):
            client.log_batch(run_id, tags=tags[i : i + 100])
        for i in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[i : i + _BATCH])
        _log_files(client, run_id, run, on_progress)
        client.set_terminated(run_id)
    except MlflowException as error:
        raise InputError(f"mlflow refuses: {str(error).splitlines()[0]}", fix=f"is {uri} a tracking server?") from None
    return f"run {run_id} in experiment foreshock at {uri}"


def _log_files(client: Any, run_id: str, run: TrackedRun, on_progress: OnProgress) -> None:
    for done, (path, below) in enumerate(run.files, start=1):
        client.log_artifact(run_id, str(path), None if below == "." else below)
        on_progress(done, len(run.files))


SPEC = ExporterSpec(
    "mlflow", "an MLflow store; --upload URI logs to a tracking server", write_mlflow, send_mlflow, "tracking URI"
)
