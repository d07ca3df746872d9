"""Engines by name. Nothing heavy is imported before an engine is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine


def _transformers() -> Callable[..., Engine]:
    from foreshock.jobs.engines.transformers import TransformersEngine

    return TransformersEngine


def _fake() -> Callable[..., Engine]:
    from foreshock.jobs.engines.fake import FakeEngine

    return FakeEngine


def _vllm() -> Callable[..., Engine]:
    from foreshock.jobs.engines.vllm.engine import VllmEngine

    return VllmEngine


def _openai() -> Callable[..., Engine]:
    from foreshock.jobs.engines.endpoint.engine import OpenAIEngine

    return OpenAIEngine


_ENGINES: dict[str, Callable[[], Callable[..., Engine]]] = {
    "transformers": _transformers,
    "vllm": _vllm,
    "openai": _openai,
    "fake": _fake,
}

ENGINE_NAMES = tuple(sorted(_ENGINES))
"""Every name that `create_engine` knows."""


def require_engine(name: str, options: Iterable[str] = ()) -> None:
    """Raise InputError, naming the valid ones, if there is no engine of this name or it has no such option.

    An engine whose package is not on this machine is taken on trust: plans are made on login nodes.
    """
    if name not in _ENGINES:
        raise InputError(f"unknown engine {name!r}; valid: {', '.join(ENGINE_NAMES)}")
    try:
        build = _ENGINES[name]()
    except ImportError:
        return
    valid = [p for p in inspect.signature(build).parameters if p != "self"]
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise InputError(f"engine {name!r} has no option {unknown[0]!r}; valid: {', '.join(sorted(valid))}")


def create_engine(name: str, options: Mapping[str, Any] | None = None) -> Engine:
    """An engine that has loaded nothing yet. `options` are the engine's keyword arguments.

    Raises ValueError for an unknown name or option, naming the valid ones.
    """
    given = dict(options or {})
    require_engine(name, given)
    return _ENGINES[name]()(**given)
