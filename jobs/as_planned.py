"""A worker held against its plan: a difference would be computed here and named as what was planned."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from foreshock.errors import ForeshockError
from foreshock.jobs.model_files.fingerprint import model_fingerprint
from foreshock.jobs.records.spec import Checkpoint, JobSpec
from foreshock.jobs.torch_build import torch_build, visible_gpus
from foreshock.jobs.verify.base import Verifier
from foreshock.ran import Recorder


def require_planned_model(checkpoint: Checkpoint, planned: str) -> None:
    """Raise ForeshockError unless the weights are those that the run was planned with: a queued job may start days
    later."""
    try:
        now = model_fingerprint(checkpoint.path)
    except ValueError as error:
        raise ForeshockError(str(error)) from None
    if now != planned:
        raise ForeshockError(
            f"{checkpoint.path}: the model has changed since the run was planned "
            f"(fingerprint {now[:12]}, planned {planned[:12]})"
        )


def require_planned_verifier(verifier: Verifier, specs: Sequence[JobSpec]) -> None:
    """Raise ForeshockError when verdicts would not be those of the verifier that the specs were planned with."""
    own = f"{verifier.identity()}:"
    planned = next((spec.verifier for spec in specs if spec.verifier and not spec.verifier.startswith(own)), None)
    if planned is not None:
        raise ForeshockError(
            f"this machine's verifier is {verifier.identity()}; the run was planned with {planned}: its verdicts must "
            "not be mixed with the others\n  -> install the planned version here, or start a new run: foreshock run"
        )


def require_gpus(planned: int) -> None:
    """Raise ForeshockError where the job was given GPUs and torch sees none: it would compute on the CPU, and be named
    a GPU's work."""
    if planned and not visible_gpus():
        build = torch_build()
        built = build.get("cuda") or build.get("hip")
        why = (
            f"torch {build.get('__version__')} is built without CUDA or ROCm"
            if built is None
            else "no driver is visible"
        )
        raise ForeshockError(
            f"this worker was planned for {planned} GPU{'' if planned == 1 else 's'} and sees none on "
            f"{platform.node()}: {why}\n  -> use the gpu image, and leave `nv` of the profile's container unset; "
            "to compute on CPUs: a profile without GPUs, or device: cpu under engine"
        )


def require_planned_place(recorder: Recorder, *, strict: bool) -> None:
    """Say how this process differs from its plan; with `strict`, raise ForeshockError instead of computing anything."""
    if strict and (found := recorder.deviations()):
        raise ForeshockError(
            f"this worker is not what the run was planned for: {'; '.join(found)}\n  -> use the planned commit and "
            "image, or go on without: foreshock resume --no-strict"
        )
