"""transformers' reading of a model's config.json: the one place, since code that a model brings along is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def transformers_config(folder: Path) -> Any:
    """A PretrainedConfig. Raises what transformers does: OSError, ValueError, KeyError; ValueError for wrong types."""
    from foreshock.jobs.auto_classes import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{error} (a value of the wrong type)") from error
