"""Verifiers by name. Nothing heavy is imported before a verifier is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.verify.base import Verifier


def _builtin() -> Callable[..., Verifier]:
    from foreshock.jobs.verify.builtin.verifier import BuiltinVerifier

    return BuiltinVerifier


def _djinn() -> Callable[..., Verifier]:
    from foreshock.jobs.verify.djinn.verifier import DjinnVerifier

    return DjinnVerifier


_VERIFIERS: dict[str, Callable[[], Callable[..., Verifier]]] = {"builtin": _builtin, "djinn": _djinn}


def create_verifier(name: str, options: Mapping[str, Any] | None = None) -> Verifier:
    """A verifier by name; `options` are its keyword arguments. Raises InputError naming the valid ones."""
    if name not in _VERIFIERS:
        raise InputError(f"unknown verifier {name!r}; valid: {', '.join(sorted(_VERIFIERS))}")
    build = _VERIFIERS[name]()
    valid = set(inspect.signature(build).parameters)
    unknown = sorted(set(options or {}) - valid)
    if unknown:
        raise InputError(f"verifier {name!r} has no option {unknown[0]!r}; valid: {', '.join(sorted(valid))}")
    return build(**dict(options or {}))
