"""What an engine is to everything around it: a name, the class behind it, and the facts that plans and packing need.

This is what a package of yours offers under the entry-point group `foreshock.engines`; CONTRIBUTING.md says how.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine
from foreshock.jobs.records.spec import Checkpoint


@dataclass(frozen=True)
class EngineSpec:
    """One engine. What `build` imports may be missing where plans are made (login nodes), so all else is said here."""

    name: str
    """As configurations call it."""
    summary: str
    """A line for people."""
    build: Callable[[], Callable[..., Engine]]
    """Imports the engine's class and returns it; the parameters of its constructor are the engine's options."""
    on_device: bool = True
    """It holds the model on a device of this machine, and takes the options `device`, `dtype` and `threads`."""
    batch_option: str | None = "batch_size"
    """Which option `engine.batch_size` becomes; None for an engine that takes none."""
    default_batch: int = 64
    """Its value where the configuration has none."""
    halved: tuple[str, ...] = ("batch_size",)
    """Options that a task halves after it was killed for memory."""
    gpus_option: str | None = None
    """Which option spreads one model over several GPUs; None if none does."""
    drops_positions: bool = False
    """Sliding-window layers forget what left their window, which saves memory."""
    one_without_gpu: bool = False
    """Without a GPU one worker is enough, since the engine is parallel by itself."""
    forked: bool = True
    """CPU workers may be forked from a process that imported `preload`; not for engines with processes of their own."""
    own_options: tuple[str, ...] | None = None
    """Names of its options, for an engine whose import takes seconds; else they are its constructor's parameters."""
    preload: tuple[str, ...] = ()
    """Modules that such a process imports besides the worker's own."""
    folds_adapters: bool = False
    """It adds a LoRA adapter to its base's weights, which quantised ones do not take."""
    require_model: Callable[[Path, Mapping[str, Any]], None] | None = None
    """Raises InputError for a full model's directory that the engine, with its options, would compute otherwise than
    transformers does."""
    scoring_problem: Callable[[Checkpoint, Mapping[str, Any], float], str | None] | None = None
    """Asked at plan time, of engines that may be unable to score: why prefills of a checkpoint cannot be scored at a
    temperature, or None."""
    served_context: Callable[[Checkpoint, Mapping[str, Any]], int | None] | None = None
    """Asked at plan time, of engines that only reach a model: tokens that fit it there; None where that is not told."""
    checked_when_built: bool = False
    """Its constructor loads and asks for nothing, so planning makes one to check the options' values."""
    load_s: float = 5.0
    """First guess of the seconds to start it with a model."""
    swap_s: float = 0.5
    """First guess of the seconds to swap the model in it."""

    def options(self) -> list[str] | None:
        """Names of its options, sorted; None if its packages are not on this machine."""
        if self.own_options is not None:
            return sorted(self.own_options)
        try:
            build = self.build()
        except ImportError:
            return None
        return sorted(name for name in inspect.signature(build).parameters if name != "self")

    def require_options(self, given: Iterable[str]) -> None:
        """Raise InputError, naming the valid ones, for an option that it does not have.

        An engine whose package is not on this machine is taken on trust: plans are made on login nodes.
        """
        valid = self.options()
        unknown = [] if valid is None else sorted(set(given) - set(valid))
        if valid is not None and unknown:
            raise InputError(f"engine {self.name!r} has no option {unknown[0]!r}; valid: {', '.join(valid)}")
