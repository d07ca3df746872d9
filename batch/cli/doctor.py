"""What this machine offers, examined by trying it.

`missing` is only said of what every run needs; everything optional that is not there is `absent`, with what it would
take.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path

from foreshock.errors import InputError

_NEEDED = ("torch", "transformers", "accelerate", "safetensors", "pandas", "pyarrow", "numpy", "scipy", "gpytorch")
_NEEDED_TOO = ("scikit-learn", "matplotlib", "jinja2", "pydantic", "pyyaml", "typer", "rich")
_OPTIONAL = {"vllm": "pip install 'foreshock[vllm]'"}


@dataclass
class Finding:
    """One thing looked at. `state`: ok, weak, absent (optional) or missing (needed)."""

    state: str
    what: str
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything; never raises."""
    findings: list[Finding] = []
    for look in (_python, _packages, _devices, _memory, _disk, _sandbox, _verifiers, _tools):
        try:
            findings += look()
        except Exception as error:  # noqa: BLE001 - a broken probe is a finding, not a crash
            findings.append(Finding("weak", look.__name__.strip("_"), f"{type(error).__name__}: {error}"))
    return findings


def _python() -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return [Finding("ok" if good else "missing", "Python", version, "" if good else "install Python 3.11 or newer")]


def _packages() -> list[Finding]:
    found, missing = [], []
    for name in (*_NEEDED, *_NEEDED_TOO):
        try:
            found.append(f"{name} {packages.version(name)}")
        except packages.PackageNotFoundError:
            missing.append(name)
    findings = [Finding("ok", "packages", ", ".join(found))]
    if missing:
        findings.append(Finding("missing", "packages", ", ".join(missing), "pip install foreshock"))
    for name, fix in _OPTIONAL.items():
        try:
            findings.append(Finding("ok", name, packages.version(name)))
        except packages.PackageNotFoundError:
            findings.append(Finding("absent", name, "not installed", fix))
    return findings


def _verifiers() -> list[Finding]:
    from foreshock.jobs.verify.registry import VERIFIERS, verifier_facts

    findings = []
    for name in VERIFIERS.names():
        what = f"verifier {name}"
        try:
            spec, facts = VERIFIERS.get(name), verifier_facts(name)
        except InputError as error:
            problem, _, fix = str(error).partition("\n  -> ")
            findings.append(Finding("absent", what, problem, fix))
        else:
            found = f"{facts.identity} of {VERIFIERS.origin(name)}, {len(facts.exploit_types)} exploit types: "
            findings.append(Finding("ok", what, found + spec.summary))
    return findings


def _devices() -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0))
    findings = [Finding("ok", "CPU", f"{cores} cores")]
    if not torch.cuda.is_available():
        return [*findings, Finding("absent", "GPU", f"none visible to torch {torch.__version__}", "runs on the CPU")]
    for i in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(i)
        findings.append(Finding("ok", f"GPU {i}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"))
    return findings


def _memory() -> list[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        Finding("ok" if total >= 4 else "weak", "memory", f"{total:.0f} GiB", "" if total >= 4 else "4 GiB or more")
    ]


def _disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [Finding("ok" if free > 2 else "weak", "disk here", f"{free:.0f} GiB free", "" if free > 2 else "free some")]


def _sandbox() -> list[Finding]:
    from foreshock.jobs.verify.sandbox.tiers import sandbox_report

    report = sandbox_report()
    advice = " ".join(report.advice)
    if report.tier is None:
        return [Finding("missing", "sandbox", "no tier works here, so no sampled code can be verified", advice)]
    refused = "; ".join(f"{p.tier.value}: {p.reason}" for p in report.probes if not p.available)
    found = f"tier {report.tier.value}" + (f" ({refused})" if refused else "")
    if not report.is_full:
        found += "; runs are refused here unless they are told to accept it (--allow-weak-sandbox)"
    return [Finding("ok" if report.is_full else "weak", "sandbox", found, advice)]


def _tools() -> list[Finding]:
    commands: dict[str, tuple[list[str], str]] = {
        "Slurm": (["sbatch", "--version"], "needed for --cluster slurm only"),
        "Slurm accounting": (["sacct", "--version"], "status then uses squeue alone"),
        "apptainer": (["apptainer", "--version"], "needed to run from an image on a cluster only"),
        "podman": (["podman", "--version"], "another way to run images on a cluster"),
        "docker": (["docker", "--version"], "needed to build images only"),
    }
    return [_tool(what, command, note) for what, (command, note) in commands.items()]


def _tool(what: str, command: list[str], note: str, which: Callable[[str], str | None] = shutil.which) -> Finding:
    if which(command[0]) is None:
        return Finding("absent", what, f"no {command[0]}", note)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("weak", what, f"{' '.join(command)}: {error}", note)
    said = (done.stdout or done.stderr).strip().split("\n")[0]
    return Finding("ok", what, said) if done.returncode == 0 else Finding("weak", what, said, note)
