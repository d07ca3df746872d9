"""A first configuration with comments, and a first Slurm profile, as text for people to edit."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

LEVELS = (0, 10, 30, 100)


@dataclass(frozen=True, slots=True)
class Choices:
    """What goes into a first configuration; paths as they should stand in it. `traces` is None for level 0 alone."""

    name: str
    checkpoints: str
    problems: str
    traces: str | None
    engine: str
    profile: str | None = None


def config_text(choices: Choices) -> str:
    """The YAML file. Values are written as JSON strings, which YAML reads as they are."""
    lines = [
        "# A sweep: every checkpoint x every prefill level. `foreshock plan` shows it and starts nothing.",
        "# Relative paths are relative to this file; $VARIABLES and ~ are expanded. Every key: docs/configuration.md",
        f"name: {_text(choices.name)}",
        "checkpoints:",
        f"  dir: {_text(choices.checkpoints)}  # holds checkpoint-N, step_N, global_step_N, ...",
        "  # steps: [10, 20, final]   # only these; default: all",
        "problems:",
        f"  source: {_text(choices.problems)}  # a file (docs/problems.md), or `builtin`",
        "  # max_problems: 20         # for a first try",
        "prefill:",
    ]
    if choices.traces is None:
        lines += [
            "  # source: traces.jsonl     # exploit traces (docs/traces.md), for levels above 0",
            "  levels: [0]                # words of exploit reasoning that are forced; 0 is unprompted",
        ]
    else:
        lines += [
            f"  source: {_text(choices.traces)}  # task_id, reasoning, exploit_success (docs/traces.md)",
            f"  levels: {list(LEVELS)}  # words of exploit reasoning that are forced; 0 is unprompted",
        ]
    lines += [
        "sampling:",
        "  attempts: 3                # samples per problem, level and checkpoint",
        "  temperature: 1.0",
        "  max_tokens: 2048",
        "engine:",
        f"  name: {_text(choices.engine)}  # auto: vllm where it and a GPU are there, else transformers",
        "logprob:",
        "  enabled: true              # how natural each prefill is to the model",
        "  # reference: checkpoints/checkpoint-100   # the donor that wrote the traces: adds KL and better estimates",
    ]
    if choices.profile is not None:
        lines += ["execution:", "  cluster: slurm", f"  profile: {_text(choices.profile)}"]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    plain = value.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    simple = plain.isalnum() and not value[0].isdigit() and value.lower() not in ("null", "true", "false", "yes", "no")
    return value if simple else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as sinfo tells it."""

    name: str
    default: bool
    time: str
    gres: str


def partitions() -> list[Partition]:
    """The cluster's partitions; empty where there is no Slurm, or it does not answer."""
    program = shutil.which("sinfo")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--noheader", "--format=%P|%l|%G"], capture_output=True, text=True, timeout=15, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found: dict[str, Partition] = {}
    for line in done.stdout.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 3 and parts[0]:
            name = parts[0].rstrip("*")
            seen = found.get(name)
            gres = parts[2] if "gpu" in parts[2] or seen is None else seen.gres
            found[name] = Partition(name, parts[0].endswith("*"), parts[1], gres)
    return list(found.values())


def profile_text(known: list[Partition]) -> str:
    """A Slurm profile: the first partition with GPUs, else the default one, else a place to name it."""
    with_gpu = [one for one in known if "gpu" in one.gres]
    chosen = next(iter([*with_gpu, *(one for one in known if one.default), *known]), None)
    lines = ["# How this site's Slurm runs workers. Every key: docs/slurm-profile.md"]
    if known:
        lines += ["# Partitions that sinfo names:"]
        lines += [f"#   {one.name}{' (default)' if one.default else ''}: up to {one.time}, {one.gres}" for one in known]
    lines.append(f"partition: {_text(chosen.name)}" if chosen else "# partition: gpu")
    gpu = bool(with_gpu) or not known
    lines += [
        "# account: mylab",
        f"gpus_per_node: {1 if gpu else 0}",
        "cpus_per_task: 8",
        "mem: 64G",
        'time: "04:00:00"',
        "signal_lead_s: 180         # longer than the slowest batch and its verdicts",
        "array_throttle: 16         # GPUs at hand at once",
        "# setup:                   # shell lines before the worker",
        "#   - module load cuda",
        "# container:               # docs/images.md",
        "#   image: /shared/foreshock.sif",
        "final: cpu                 # profile of the job that aggregates and analyses",
    ]
    return "\n".join(lines) + "\n"


def beside(path: Path, folder: Path) -> str:
    """A path as a configuration in `folder` should name it: relative where it lies below, else absolute."""
    try:
        return path.absolute().relative_to(folder.absolute()).as_posix()
    except ValueError:
        return str(path.absolute())
