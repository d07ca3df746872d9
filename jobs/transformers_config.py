"""transformers' reading of a model's config.json: the one place, since code that a model brings along is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def transformers_config(folder: Path) -> Any:
    """A PretrainedConfig. Raises what transformers does: OSError, ValueError, KeyError, others for wrong types."""
    from foreshock.jobs.auto_classes import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False)
