"""The environment inside an image: where libraries cache, and what keeps them offline and quiet.

Caches never go to the home directory. It is often not there, not writable or over quota on compute nodes, and shared
caches of compiled kernels break when two jobs write them at once.
"""

from __future__ import annotations

CACHE_FOLDERS = {
    "XDG_CACHE_HOME": "cache",
    "HF_HOME": "cache/huggingface",
    "VLLM_CACHE_ROOT": "cache/vllm",
    "TRITON_CACHE_DIR": "cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": "cache/torchinductor",
    "FLASHINFER_WORKSPACE_BASE": "cache",
    "NUMBA_CACHE_DIR": "cache/numba",
    "MPLCONFIGDIR": "cache/matplotlib",
}
"""Variable -> folder below scratch. enter.sh and apptainer.def set the same ones; a test compares."""

CUDA_HOME = "/usr/local/foreshock/venv/cuda"
"""The gpu image's CUDA toolkit, as the packages of its lock lay it out."""

IMAGE_SETTINGS = {
    "LANG": "C.UTF-8",
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
"""Settings of both images: nothing from the user's own packages, nothing from a hub, no usage reports."""


def cache_environment(scratch: str) -> dict[str, str]:
    """Cache variables for a scratch folder."""
    return {name: f"{scratch.rstrip('/')}/{folder}" for name, folder in CACHE_FOLDERS.items()}
