"""What `run` and `plan` are asked alike: a configuration, and options that replace its keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from foreshock.batch.config import RunConfig

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(help="Run configuration in YAML (docs/configuration.md). Optional with --sensitivity-run."),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Configuration keys to replace, e.g. sampling.attempts=5."),
]
ClusterOption = Annotated[
    str | None, typer.Option("--cluster", help="local (worker processes), slurm, or inline (this process).")
]
SensitivityOption = Annotated[
    Path | None,
    typer.Option(
        "--sensitivity-run",
        help="Sample again what an earlier run sampled: checkpoints, levels and sources from its config.yaml; `newest` "
        "means the newest under results/prefill_sensitivity/. To analyse a run that is there: foreshock analyse RUN.",
    ),
]
SkipLogprobOption = Annotated[bool, typer.Option("--skip-logprob", help="Do not score the prefills.")]
SkipAnalysisOption = Annotated[
    bool, typer.Option("--skip-analysis", help="Stop at the tables: no analyses, no report.")
]
KeepInconsistentOption = Annotated[
    bool,
    typer.Option(
        "--keep-inconsistent",
        help="Run problems that `foreshock check` finds inconsistent, instead of leaving them out.",
    ),
]
AdaptiveOption = Annotated[
    bool | None,
    typer.Option(
        "--adaptive/--no-adaptive",
        help="After the sweep, spend a budget of unprompted attempts where they narrow the estimates most.",
    ),
]
StrictOption = Annotated[
    bool | None,
    typer.Option("--strict/--no-strict", help="Workers of another commit or image than planned compute nothing."),
]
WorkersOption = Annotated[int | None, typer.Option("--workers", min=1, help="Worker processes.")]


def configuration(
    config: Path | None,
    overrides: list[str],
    sensitivity_run: Path | None,
    cluster: str | None,
    skip_logprob: bool,
    skip_analysis: bool,
    workers: int | None,
    adaptive: bool | None = None,
    base_url: str | None = None,
    served_model: str | None = None,
    keep_inconsistent: bool = False,
    strict: bool | None = None,
) -> RunConfig:
    """The configuration from its file or an earlier run, with the command line's overrides."""
    from foreshock.batch.config_file import load_config, load_yaml, parse_config, with_endpoint, with_overrides
    from foreshock.batch.earlier_runs import config_from_sensitivity_run, newest_run

    if config is not None and "=" in config.name and not config.exists():
        config, overrides = None, [str(config), *overrides]
    if config is None and sensitivity_run is None:
        sensitivity_run = Path("newest")
    if sensitivity_run is not None:
        folder = newest_run(Path("results")).root if str(sensitivity_run) == "newest" else sensitivity_run
        sections = load_yaml(config)[0] if config is not None else {}
        loaded = config_from_sensitivity_run(folder, sections or {}, config)
    else:
        assert config is not None
        loaded = load_config(config)
    data = with_overrides(loaded, overrides).to_yaml_dict()
    if cluster is not None:
        data["execution"]["cluster"] = cluster
    if workers is not None:
        data["execution"]["workers"] = workers
    if skip_logprob:
        data["logprob"]["enabled"] = False
    if skip_analysis:
        data["analysis"]["enabled"] = False
    if adaptive is not None:
        data["adaptive"]["enabled"] = adaptive
    if keep_inconsistent:
        data["problems"]["keep_inconsistent"] = True
    if strict is not None:
        data["execution"]["strict"] = strict
    data["engine"] = with_endpoint(data["engine"], base_url, served_model)
    return parse_config(data, config)
