"""`foreshock donor`: the model under test, trained on exploit solutions without reasoning."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.batch.cli.command_jobs import JobClusterOption, JobProfileOption
from foreshock.batch.cli.options import JsonOption, one_of
from foreshock.batch.cli.run_options import OverridesArgument
from foreshock.batch.cli.tell import visible

if TYPE_CHECKING:
    from foreshock.batch.config import RunConfig
    from foreshock.batch.donor.plan import DonorPlan
    from foreshock.batch.donor.settings import TrainingSettings
    from foreshock.batch.executors.command_job import CommandJob


def donor(
    config: Annotated[Path, typer.Argument(help="Configuration (YAML), as for `foreshock run`.")],
    overrides: OverridesArgument = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="The model to train: step or name; default: the run's first.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory of the donor; default: RESULTS/donors/RUN-CHECKPOINT."),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="lora (needs the extra `train`), or full.")] = "lora",
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Default: 2e-4 for lora, 1e-5 for full.")
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most; --stop-on stops earlier.")] = 8,
    stop_on: Annotated[
        str,
        typer.Option(
            "--stop-on",
            help="exploit-rate: of sampled answers to held-out problems, verified; of equal rates the lower loss. "
            "loss: the held-out loss.",
        ),
    ] = "exploit-rate",
    patience: Annotated[
        int, typer.Option("--patience", min=1, help="Epochs without a better one before it stops.")
    ] = 2,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Answers drawn for each rate, once an epoch.")] = 16,
    sample_tokens: Annotated[
        int | None,
        typer.Option(
            "--sample-tokens",
            min=1,
            help="Most tokens of such an answer; default: sampling.max_tokens, on a CPU 256 at most.",
        ),
    ] = None,
    held_out: Annotated[float, typer.Option("--held-out", help="Share of the problems that is not trained on.")] = 0.2,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Answers per optimiser step.")] = 8,
    micro_batch: Annotated[
        int, typer.Option("--micro-batch", min=1, help="Answers per forward pass; fewer take less memory.")
    ] = 4,
    rank: Annotated[int, typer.Option("--rank", min=1, help="LoRA's rank.")] = 16,
    alpha: Annotated[int, typer.Option("--alpha", min=1, help="LoRA's scale: alpha / rank.")] = 32,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the split and of the order of examples.")
    ] = 0,
    cluster: JobClusterOption = None,
    profile: JobProfileOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what would be trained on; start nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a donor: train the model under test on the problems' exploit solutions, without reasoning.

    Its samples give prefills that are natural to the model (`foreshock traces`), and it is `logprob.reference`.
    Interrupted, the same command goes on where it stopped. With --cluster slurm it is a job, which goes on by itself
    after preemption and time limits.

    Example: foreshock donor sweep.yaml --checkpoint 100 -o donors/early
    """
    from foreshock.batch.cli.command_jobs import as_slurm_job, profile_name, show_script, submit_and_show
    from foreshock.batch.config_file import load_config, with_overrides
    from foreshock.batch.donor.make import begin, finished_recipe
    from foreshock.batch.donor.plan import plan_donor
    from foreshock.batch.donor.settings import Method, StopOn, TrainingSettings

    how, stops = one_of("--method", method, Method), one_of("--stop-on", stop_on, StopOn)
    settings = TrainingSettings(
        how, learning_rate, epochs, batch_size, micro_batch, patience, held_out, seed, rank, alpha, stops, samples
    )
    loaded = with_overrides(load_config(config), overrides or [])
    job: CommandJob | None = None
    if as_slurm_job(cluster, loaded.execution):
        name = profile_name(profile, loaded.execution)
        loaded = _for_nodes(loaded, name)
        made = plan_donor(loaded, settings, checkpoint, output, loaded.engine.device, sample_tokens)
        job = _as_job(made, settings, name, sample_tokens)
    else:
        made = plan_donor(loaded, settings, checkpoint, output, sample_tokens=sample_tokens)
    if dry_run:
        _show_plan(made, as_json)
        if job is not None and not as_json:
            show_script(job_folder(made), job)
    elif job is not None and finished_recipe(made) is None:

        def before() -> None:
            begin(made)
            _keep_inputs(made, loaded)

        submit_and_show(job_folder(made), job, as_json, before)
    else:
        recipe = _train(made)
        if as_json:
            typer.echo(json.dumps({"output": str(made.output), **recipe}, indent=2))
        else:
            _show_result(made, recipe, (config, loaded, overrides or []))


def job_folder(plan: DonorPlan) -> Path:
    """Everything about the job that makes a donor."""
    return plan.output.with_name(f"{plan.output.name}.job")


def _for_nodes(config: RunConfig, profile: str) -> RunConfig:
    """The configuration as it holds on a node of that profile, which this machine need not be like."""
    from foreshock.batch.executors.slurm_command import command_profile

    found, engine = command_profile(profile), config.engine
    device = ("cuda" if found.gpus else "cpu") if engine.device == "auto" else engine.device
    threads = found.cpus_per_task if device == "cpu" and engine.threads is None else engine.threads
    return config.model_copy(update={"engine": engine.model_copy(update={"device": device, "threads": threads})})


def _as_job(plan: DonorPlan, settings: TrainingSettings, profile: str, sample_tokens: int | None) -> CommandJob:
    from dataclasses import asdict

    from foreshock.batch.as_jobs.work import DONOR
    from foreshock.batch.donor.make import training_lock
    from foreshock.batch.executors.command_job import CommandJob

    return CommandJob(
        DONOR,
        {
            "config": str(_config_file(plan)),
            "inputs": str(job_folder(plan)),
            "settings": asdict(settings),
            "checkpoint": plan.target.name,
            "output": str(plan.output),
            "sample_tokens": sample_tokens,
            "recipe_sha256": plan.sha256(),
            "on_gpu": not plan.device.startswith("cpu"),
        },
        f"donor-{plan.output.name}",
        "steps",
        profile,
        models=(str(plan.target.path), str(plan.target.tokenizer_path)),
        writes=(str(plan.output.parent),),
        locks=(str(training_lock(plan.output)),),
    )


def _config_file(plan: DonorPlan) -> Path:
    return job_folder(plan) / "config.yaml"


def _keep_inputs(plan: DonorPlan, config: RunConfig) -> None:
    """What the job reads, whatever becomes of the user's files, and whether nodes reach them or not."""
    import yaml

    from foreshock.durable import atomic_write_bytes
    from foreshock.jobs.inputs import SHARED, RunInputs
    from foreshock.jobs.records.layout import RunLayout

    RunInputs(plan.problems, {}, SHARED, 1).write(RunLayout(job_folder(plan)))
    text = yaml.safe_dump(config.to_yaml_dict(), sort_keys=False)
    atomic_write_bytes(_config_file(plan), text.encode())


def _train(plan: DonorPlan) -> dict[str, Any]:
    from foreshock.batch.cli.display import count_bar, say
    from foreshock.batch.donor.loop import LoopHooks, told
    from foreshock.batch.donor.make import finished_recipe, make_donor
    from foreshock.jobs.stop_flag import StopFlag

    if finished_recipe(plan) is not None:
        say("this donor is there already, made from the same model, data and settings; it is kept")
    _say_plan(plan, say)

    with StopFlag().installed() as stop, count_bar("training", "steps") as bar:
        hooks = LoopHooks(on_step=bar, on_evaluation=lambda entry: say(told(entry)), stop=stop)
        return make_donor(plan, hooks, say)


def _say_plan(plan: DonorPlan, tell: Any) -> None:
    split = plan.split
    tell(f"target: {plan.target.run}, {plan.target.name} ({plan.target.path})")
    tell(
        f"{len(split.train)} exploit solutions to train on, {len(split.held_out)} held out"
        + (f" ({split.repeated} of these also trained on, word for word)" if split.repeated else "")
    )
    tell(f"reasoning: {plan.prompt['reasoning']}")
    for reason, n in split.left_out.items():
        tell(f"{n} problems left out: {reason}")


def _show_plan(plan: DonorPlan, as_json: bool) -> None:
    from foreshock.batch.donor.loop import steps_per_epoch
    from foreshock.batch.donor.make import finished_recipe, working_folder

    done = finished_recipe(plan) is not None
    begun = (working_folder(plan.output) / "begun.json").is_file()
    steps = steps_per_epoch(len(plan.split.train), plan.settings)
    shown = plan.shown_example()
    if as_json:
        document = {
            **plan.identity(),
            "output": str(plan.output),
            "finished": done,
            "begun": begun,
            "steps_per_epoch": steps,
            "example": shown,
        }
        typer.echo(json.dumps(document, indent=2))
        return
    _say_plan(plan, typer.echo)
    settings = ", ".join(f"{key} {value}" for key, value in plan.settings.to_json().items())
    typer.echo(f"settings: {settings}; {plan.device}, {plan.dtype}")
    typer.echo(f"{steps} steps an epoch, at most {steps * plan.settings.epochs}")
    if plan.draws is not None:
        draws = plan.draws
        typer.echo(
            f"each evaluation draws {len(draws.pairs)} answers to {len(draws.problems)} held-out problems, at most "
            f"{draws.sampling.max_tokens} tokens each"
        )
    typer.echo(f"output: {plan.output}{' (finished)' * done}{' (a training that goes on)' * begun}")
    typer.echo(visible(f"\nthe first example, {shown['task_id']}: read, not trained on\n{shown['prompt']}"))
    typer.echo(visible(f"\ntrained on\n{shown['trained_on']}"))


def _show_result(plan: DonorPlan, recipe: dict[str, Any], origin: tuple[Path, RunConfig, Sequence[str]]) -> None:
    loss = recipe["held_out_loss"]
    typer.echo(
        f"held-out loss per token: {loss['target']:.4f} of the target, {loss['donor_as_sampled']:.4f} of the donor "
        f"(step {recipe['best_step']}, {recipe['stopped_by']})"
    )
    rate = recipe["exploit_rate"]
    if rate is not None:
        typer.echo(
            f"exploit rate, {plan.settings.samples} answers to held-out problems: {rate['target']:.0%} of the target, "
            f"{rate['donor_as_sampled']:.0%} of the donor"
        )
    typer.echo(f"donor: {plan.output}")
    typer.echo(f"next: {sampling_command(plan.output, *origin)}    (its samples at level 0)")
    typer.echo("then: foreshock traces RUN -o traces.jsonl    (RUN: the directory that this names)")
    typer.echo(f"and in the configuration: prefill.source: traces.jsonl, logprob.reference: {plan.output}")


def sampling_command(donor: Path, file: Path, config: RunConfig, overrides: Sequence[str]) -> str:
    """The command that samples the donor as its run asks: the same problems, prompts, sampling and verifier.

    file, config: the configuration, and what it says with `overrides`.
    """
    wanted: dict[str, Any] = {
        "name": f"donor-{donor.name}",
        "checkpoints.dir": str(donor),
        "checkpoints.steps": "all",
        "checkpoints.run": None,
        "checkpoints.repo": None,
        "prefill.source": None,
        "prefill.levels": [0],
        "logprob.enabled": False,
        "ground_truth.attempts": 0,
        "adaptive.enabled": False,
        "sampling.attempts": 40,
    }
    known = config.to_yaml_dict()
    said = []
    for key, value in wanted.items():
        section, _, name = key.partition(".")
        if (known[section][name] if name else known[section]) != value:
            said.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    replaced = {text.partition("=")[0] for text in said}
    kept = [text for text in overrides if text.partition("=")[0].strip() not in replaced]
    return shlex.join(["foreshock", "run", str(file), *kept, *said])
