"""`foreshock resume`: what is missing of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreshock.batch.cli.options import JsonOption, ResultsOption, RunDirArgument
from foreshock.batch.cli.result_view import show_result
from foreshock.batch.cli.run_options import ClusterOption, StrictOption, WorkersOption

if TYPE_CHECKING:
    from foreshock.batch.config import RunConfig


def resume(
    run_dir: RunDirArgument = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    strict: StrictOption = None,
    analyse: Annotated[
        bool,
        typer.Option("--analyse", help="Of a Slurm run that is complete: aggregate and analyse here, not in a job."),
    ] = False,
    results_dir: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Do what is missing of a run and analyse it again. Never repeats a finished batch.

    On Slurm, what was refused or never submitted is planned anew from the profile as it is now, a job aggregates and
    analyses, and a run that is complete and analysed is left alone. Example: foreshock resume RUN_DIR
    """
    from foreshock.batch.cli.command_jobs import resubmit
    from foreshock.batch.cli.display import hooks
    from foreshock.batch.config_file import parse_config
    from foreshock.batch.earlier_runs import newest_run
    from foreshock.batch.executors.command_job import is_command_job
    from foreshock.batch.running.run import require_complete
    from foreshock.batch.running.run import resume as resume_run

    def override(stored: RunConfig) -> RunConfig:
        data = stored.to_yaml_dict()
        if cluster is not None:
            data["execution"]["cluster"] = cluster
        if workers is not None:
            data["execution"]["workers"] = workers
        if strict is not None:
            data["execution"]["strict"] = strict
        return parse_config(data)

    folder = run_dir if run_dir is not None else newest_run(results_dir).root
    if is_command_job(folder):
        resubmit(folder, as_json)
        return
    result = resume_run(folder, hooks(), override, here=analyse)
    show_result(result, as_json)
    require_complete(result)
