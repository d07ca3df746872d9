"""What an engine is to everything around it: a name, the class behind it, and the facts that plans and packing need.

This is what a package of yours offers under the entry-point group `foreshock.engines`; CONTRIBUTING.md says how.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foreshock.errors import InputError
from foreshock.jobs.engines.base import Engine


@dataclass(frozen=True)
class EngineSpec:
    """One engine.

    name: as configurations call it. summary: a line for people. build: imports the engine's class and returns it; the
    parameters of its constructor are the engine's options. What it imports may be missing on the login nodes where
    plans are made, so all else is said here.

    on_device: it holds the model on a device of this machine, and takes the options `device`, `dtype` and `threads`.
    Others (servers) hold no GPU. batch_option: which option `engine.batch_size` becomes; None for an engine that takes
    none. default_batch: its value where the configuration has none. halved: options that a task which was killed for
    memory halves. gpus_option: which option spreads one model over several GPUs; None if none does. drops_positions:
    sliding-window layers forget what left their window, which saves memory. one_without_gpu: without a GPU one worker
    is enough, since the engine is parallel by itself. forked: CPU workers may be forked from a process that imported
    `preload`, which saves the time; False for engines with processes of their own. checked_when_built: its constructor
    loads and asks for nothing, so planning makes one to check the options' values. load_s, swap_s: first guess of the
    seconds to start it and to swap the model in it.
    """

    name: str
    summary: str
    build: Callable[[], Callable[..., Engine]]
    on_device: bool = True
    batch_option: str | None = "batch_size"
    default_batch: int = 64
    halved: tuple[str, ...] = ("batch_size",)
    gpus_option: str | None = None
    drops_positions: bool = False
    one_without_gpu: bool = False
    forked: bool = True
    preload: tuple[str, ...] = ()
    checked_when_built: bool = False
    load_s: float = 5.0
    swap_s: float = 0.5

    def options(self) -> list[str] | None:
        """Names of its options, sorted; None if its packages are not on this machine."""
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
