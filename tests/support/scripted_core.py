"""A vLLM core without vLLM: answers are hashes of the weights' files, and it can die or swap badly on demand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foreshock.errors import ForeshockError
from foreshock.jobs.engines.request_checks import ModelLimits
from foreshock.jobs.engines.vllm.core import CoreDiedError, CoreRequest, CoreResult
from foreshock.jobs.engines.vllm.options import VllmOptions
from foreshock.jobs.model_files.adapters import Adapter

PER_STEP = 3


@dataclass
class Script:
    """How cores started from now on behave, and what was asked of them."""

    die_at_steps: list[int] = field(default_factory=list)  # counted over all cores
    deadly_tokens: frozenset[int] = frozenset()  # a prompt that holds one kills the core
    ignore_reloads: bool = False
    ignore_temperature: bool = False
    hide_weights: bool = False  # no tensor can be compared, as with quantised weights
    refuse_adapters: bool = False
    wrong_label: bool = False
    fail_start: bool = False
    not_finite: frozenset[int] = frozenset()  # a prompt that holds one gives logits of NaN
    steps: int = 0
    most_queued: int = 0
    order: list[tuple[int, ...]] = field(default_factory=list)
    started: list[tuple[Path, int | None]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    closed: int = 0

    def start(self, options: VllmOptions, model: Path, lora_rank: int | None) -> ScriptedCore:
        """A `StartCore`."""
        if self.fail_start:
            raise ForeshockError(f"{model}: vLLM cannot serve this model: scripted")
        self.started.append((model, lora_rank))
        return ScriptedCore(self, model)


def content(folder: Path) -> str:
    """Digest of a folder's weights."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class ScriptedCore:
    """Implements `Core`."""

    def __init__(self, script: Script, model: Path) -> None:
        self.script = script
        self.limits = ModelLimits(400, 512)
        self.folder = self.loaded = model
        self.adapter: Adapter | None = None
        self.label = "default"
        self.temperature = 1.0
        self.queue: list[CoreRequest] = []
        self.dead = False

    def add(self, request: CoreRequest) -> None:
        self._alive()
        self.queue.append(request)
        if request.key != "probe":
            self.script.order.append(request.token_ids)
        self.script.most_queued = max(self.script.most_queued, len(self.queue))

    def step(self) -> list[CoreResult]:
        self._alive()
        self.script.steps += 1
        batch, self.queue = self.queue[:PER_STEP], self.queue[PER_STEP:]
        poisoned = any(self.script.deadly_tokens & set(request.token_ids) for request in batch)
        if poisoned or self.script.steps in self.script.die_at_steps:
            self.dead = True
        self._alive()
        return [self._answer(request) for request in batch]

    def counters(self) -> dict[str, int]:
        return {"prefix_queries": 10 * self.script.steps, "prefix_hits": 4 * self.script.steps}

    def abort(self, keys: Sequence[str]) -> None:
        self._alive()
        self.script.aborted += keys
        self.queue = [request for request in self.queue if request.key not in keys]

    def call(self, method: str, *args: Any) -> Any:
        self._alive()
        if method == "foreshock_divide_logits":
            self.temperature = 1.0 if self.script.ignore_temperature else args[0]
            return None
        if method == "foreshock_weights_path":
            return str(self.folder)
        assert method == "foreshock_compare_weights"
        if self.script.hide_weights:
            return {"equal": [], "differ": []}
        same = content(Path(args[0])) == content(self.loaded)
        return {"equal": ["norm", "embed"], "differ": []} if same else {"equal": ["norm"], "differ": ["embed"]}

    def reload(self, folder: Path) -> None:
        self._alive()
        self.folder = folder
        if not self.script.ignore_reloads:
            self.loaded = folder

    def serve_adapter(self, adapter: Adapter | None) -> None:
        self._alive()
        if adapter is not None and self.script.refuse_adapters:
            raise ForeshockError(f"{adapter.path}: vLLM cannot serve this adapter: scripted")
        self.adapter = adapter

    def label_weights(self, version: str) -> None:
        self._alive()
        self.label = version

    def close(self) -> None:
        self.script.closed += 1
        self.dead = True

    def _alive(self) -> None:
        if self.dead:
            raise CoreDiedError("vLLM's engine core has died (scripted)")

    def _model(self) -> str:
        return content(self.loaded) + ("" if self.adapter is None else content(self.adapter.path))

    def _answer(self, request: CoreRequest) -> CoreResult:
        rng = _rng(self._model(), request.token_ids, request.seed if request.temperature else 0)
        tokens, stopped = [], False
        while len(tokens) < request.max_tokens and not stopped:
            tokens.append(rng.randrange(3, 300))
            stopped = tokens[-1] in request.stop_token_ids or (request.until is not None and request.until(tokens))
        logprobs = best = None
        if request.score:
            values = [
                -4.0 * _rng(self._model(), request.token_ids[: i + 1], 0).random() / self.temperature - 0.1
                for i in range(1, len(request.token_ids))
            ]
            logprobs, best = (None, *values), (None, *[-0.1] * len(values))
        versions = ("another",) if self.script.wrong_label else (self.label,)
        finite = not self.script.not_finite & set(request.token_ids)
        shown = best if request.best else None
        return CoreResult(request.key, tuple(tokens), stopped, versions, logprobs, shown, finite=finite)


def _rng(*parts: object) -> random.Random:
    return random.Random(hashlib.sha256(repr(parts).encode()).hexdigest())
