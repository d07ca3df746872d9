"""Engines by name: foreshock's own, and those of installed packages. Nothing heavy is imported before one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foreshock.plugins import Registry

if TYPE_CHECKING:
    from foreshock.jobs.engines.base import Engine
    from foreshock.jobs.engines.spec import EngineSpec

_OWN = "foreshock.jobs.engines.specs"

ENGINES: Registry[EngineSpec] = Registry(
    "engine",
    "foreshock.engines",
    "foreshock.jobs.engines.spec:EngineSpec",
    {
        "transformers": f"{_OWN}:TRANSFORMERS",
        "vllm": f"{_OWN}:VLLM",
        "openai": f"{_OWN}:OPENAI",
        "fake": f"{_OWN}:FAKE",
    },
)


def create_engine(name: str, options: Mapping[str, Any] | None = None) -> Engine:
    """An engine that has loaded nothing yet. `options` are the engine's keyword arguments.

    Raises InputError for an unknown name or option, naming the valid ones.
    """
    given = dict(options or {})
    spec = ENGINES.get(name)
    spec.require_options(given)
    return spec.build()(**given)
