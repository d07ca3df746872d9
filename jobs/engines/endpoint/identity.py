"""Is the model behind the URL the checkpoint that the work was planned for?

Names are not enough, and one look is not either. At load the server's list must hold the checkpoint, by the name
given or by its directory, and where the server tells the directory it loaded and that directory can be seen from
here, its fingerprint must be the checkpoint's. The list entry and a probe (the first token's distribution after a
fixed prompt) are kept and compared again before results are let go: see `Watch`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from foreshock.jobs.engines.endpoint.http import BadAnswerError, EndpointClient, WrongModelError
from foreshock.jobs.model_files.fingerprint import CheckpointError, model_fingerprint
from foreshock.jobs.records.checkpoint_names import FINAL, step_of_directory
from foreshock.jobs.records.spec import Checkpoint

_PROBE_TOLERANCE = 0.5
"""Nats. bfloat16 logits of another batch differ by up to about 0.1; another model by far more."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One entry of the server's model list."""

    id: str
    root: str | None
    max_model_len: int | None


Distribution = Mapping[str, float]
"""Log-probabilities of the likeliest first tokens after the fixed prompt, by the token's text."""


class Probe(Protocol):
    """One request for one greedy token, and what its first answer showed."""

    @property
    def body(self) -> Mapping[str, Any]: ...

    @property
    def answers_as(self) -> str | None: ...

    @property
    def distribution(self) -> Distribution | None: ...


def fill_placeholders(text: str, checkpoint: Checkpoint) -> str:
    """`{run}`, `{name}` (checkpoint-N or final) and `{step}` replaced."""
    step = FINAL if checkpoint.step is None else str(checkpoint.step)
    return text.replace("{run}", checkpoint.run).replace("{name}", checkpoint.name).replace("{step}", step)


def read_models(answer: Mapping[str, Any]) -> list[ServedModel]:
    """The server's list. Raises BadAnswerError."""
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(m, Mapping) and isinstance(m.get("id"), str) for m in data):
        raise BadAnswerError("the model list holds no models")
    return [
        ServedModel(
            m["id"],
            m["root"] if isinstance(m.get("root"), str) else None,
            _context_of(m),
        )
        for m in data
    ]


def _context_of(entry: Mapping[str, Any]) -> int | None:
    """Tokens of one request as the server limits them: vLLM's field, or llama.cpp's (its slots', not the model's)."""
    meta = entry.get("meta")
    held = [entry.get("max_model_len"), meta.get("n_ctx") if isinstance(meta, Mapping) else None]
    return next((n for n in held if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)


def choose_model(
    models: Sequence[ServedModel], wanted: str | None, checkpoint: Checkpoint, base_url: str
) -> ServedModel:
    """The entry that is `checkpoint`. Raises WrongModelError naming what the server has."""
    path = checkpoint.path.absolute()
    names = [wanted] if wanted else [str(path), f"{checkpoint.run}/{checkpoint.name}", checkpoint.name]
    found = next((m for name in names for m in models if m.id == name), None)
    if found is None and wanted is None:
        found = next((m for m in models if m.root is not None and _same_folder(m.root, path)), None)
    if found is None:
        listed = ", ".join(repr(m.id) for m in models) or "nothing"
        raise WrongModelError(
            f"{base_url} does not serve {checkpoint.name}: it lists {listed}, and none is "
            f"{' or '.join(map(repr, names))}\n  -> serve it (vllm serve {path} --served-model-name "
            f"{checkpoint.name}), or say what the server calls it: --served-model, engine.options.model"
        )
    _require_same_weights(found, checkpoint, base_url)
    return found


def _same_folder(root: str, path: Path) -> bool:
    return Path(root).is_absolute() and Path(root).resolve() == path.resolve()


def _require_same_weights(model: ServedModel, checkpoint: Checkpoint, base_url: str) -> None:
    """Hold the directory that the server says it loaded against the checkpoint, as far as it can be seen."""
    if model.root is None or not Path(model.root).is_absolute() or _same_folder(model.root, checkpoint.path.absolute()):
        return
    root = Path(model.root)
    differs = _other_step(root.name, checkpoint)
    if root.is_dir() and checkpoint.path.is_dir():
        try:
            differs = model_fingerprint(root) != model_fingerprint(checkpoint.path)
        except CheckpointError:
            return
    if differs:
        raise WrongModelError(
            f"{base_url}: model {model.id!r} was loaded from {model.root}, which is not {checkpoint.path}\n"
            "  -> serve the checkpoint that the run asks for"
        )


def _other_step(folder: str, checkpoint: Checkpoint) -> bool:
    """Whether a directory's name says that it holds another step."""
    try:
        return step_of_directory(folder) != checkpoint.step
    except ValueError:
        return False


@dataclass
class Watch:
    """Looks at the served model again: the list before any results are let go, the probe after faults and at intervals.

    Results received before a look that finds the model unchanged are taken to be the model's. `faulted` is set by the
    HTTP client: whatever broke, another process may answer now.
    """

    client: EndpointClient
    model: ServedModel
    probe: Probe
    path: str
    interval_s: float
    faulted: bool = False
    _looked: float = field(default_factory=time.monotonic)

    @property
    def answers_as(self) -> str | None:
        """The model that answers name, as the first one did."""
        return self.probe.answers_as

    def fault(self) -> None:
        """Something broke: probe before anything else is believed."""
        self.faulted = True

    async def look(self) -> None:
        """Raises WrongModelError if the model has changed, UnreachableError if the server does not say."""
        suspicious = self.faulted
        self.faulted = False
        try:
            await self.look_at_list()
            if suspicious or time.monotonic() - self._looked > self.interval_s:
                now = await self.client.post(self.path, dict(self.probe.body), self._read)
                self._compare(now)
                self._looked = time.monotonic()
        except BaseException:
            self.faulted = True
            raise

    def _read(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The probe's answer. Raises BadAnswerError, which is tried again, for one that lacks what the first one had: a
        broken answer says nothing of which model gave it."""
        if self.probe.distribution and not read_distribution(answer):
            raise BadAnswerError("the probe's answer holds no log-probabilities")
        return answer

    async def look_at_list(self) -> None:
        """Compare the list's entry with the one that was found at load."""
        models = await self.client.get("models", read_models)
        if self.model not in models:
            now = next((m for m in models if m.id == self.model.id), None)
            raise WrongModelError(
                f"{self.client.base_url}: the served model has changed: {self.model} was there, "
                f"{now or [m.id for m in models]} is there now; rows not yet written are dropped\n"
                "  -> serve the checkpoint again and resume the run"
            )

    def _compare(self, answer: Mapping[str, Any]) -> None:
        if answer.get("model") != self.answers_as:
            raise self._other(f"it answers as {answer.get('model')!r} now, as {self.answers_as!r} before")
        before, now = self.probe.distribution, read_distribution(answer)
        if before is None:
            return
        common = before.keys() & now.keys()
        far = max((abs(before[token] - now[token]) for token in common), default=float("inf"))
        if far > _PROBE_TOLERANCE:
            raise self._other(f"a probe's log-probabilities moved by {far:.2f} nats (allowed: {_PROBE_TOLERANCE})")

    def _other(self, sign: str) -> WrongModelError:
        return WrongModelError(
            f"{self.client.base_url}: another model answers under the name {self.model.id!r}: {sign}. Rows not yet "
            f"written are dropped; look at those of the last {time.monotonic() - self._looked:.0f} s\n"
            "  -> serve the checkpoint again and resume the run"
        )


def read_distribution(answer: Mapping[str, Any]) -> Distribution:
    """The first token's distribution; empty if the server gives none."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    logprobs = first.get("logprobs") if isinstance(first, Mapping) else None
    if not isinstance(logprobs, Mapping):
        return {}
    top = logprobs.get("top_logprobs")
    if isinstance(top, list) and top and isinstance(top[0], Mapping):  # completions
        return {token: float(value) for token, value in top[0].items() if isinstance(value, int | float)}
    content = logprobs.get("content")  # chat
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        entries = content[0].get("top_logprobs")
        if isinstance(entries, list):
            return {str(e.get("token")): float(e.get("logprob", -9999.0)) for e in entries if isinstance(e, Mapping)}
    return {}
