"""The identity of a checkpoint directory's model."""

from __future__ import annotations

from pathlib import Path


class CheckpointError(ValueError):
    """A directory that is not a usable checkpoint; the message says what is missing and what is valid."""


def model_fingerprint(path: Path) -> str:
    """Digest of config and weights, 64 hex digits."""
    raise NotImplementedError
