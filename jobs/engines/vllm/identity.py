"""Is the model that vLLM serves the one in the checkpoint's directory?

A swap is believed only on evidence from the loaded weights. When vLLM starts, samples of its weights are compared
with the files; the tensors found equal there are those whose layout vLLM leaves alone. After a swap all of them must
equal the new files, and the output layer must work with what it holds. Where layouts hide the weights (quantised,
sharded), a fixed prompt's log-probabilities stand in: other weights must give other numbers, and weights seen before
the numbers they gave then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from foreshock.errors import ForeshockError
from foreshock.jobs.engines.vllm.core import Core, CoreRequest, CoreResult

_PROBE_LENGTH = 32
_SAME_PROBE = 0.05
"""Nats a token by which the probe may differ between two visits of the same weights (kernels are not bitwise)."""


_TEMPERED = 0.02
"""Relative error allowed in a tempered probe."""


class WrongModelError(ForeshockError):
    """The served model is not the one asked for."""


@dataclass
class Identity:
    """What is known of the weights in one running core."""

    comparable: frozenset[str] = frozenset()
    probes: dict[str, tuple[float, ...]] = field(default_factory=dict)
    current: str | None = None

    def started(self, core: Core, folder: Path, fingerprint: str) -> None:
        """Take note of a core that has just read `folder`."""
        self.comparable = frozenset(core.call("foreshock_compare_weights", str(folder))["equal"])
        self.probes = {fingerprint: probe(core)}
        self.current = fingerprint

    def require_swapped(self, core: Core, folder: Path, fingerprint: str) -> None:
        """Raise WrongModelError unless the core serves `folder` after a swap."""
        served = core.call("foreshock_weights_path")
        if served != str(folder):
            raise WrongModelError(f"vLLM read {served} where {folder} was asked for")
        found = core.call("foreshock_compare_weights", str(folder))
        stale = sorted(self.comparable - set(found["equal"]))
        if stale:
            raise WrongModelError(
                f"{folder}: after the swap {len(stale)} of {len(self.comparable)} tensors compared are not the file's, "
                f"first {stale[0]!r}"
            )
        self.require_probe(core, folder, fingerprint)
        if not self.comparable and self.current != fingerprint and self.probes[fingerprint] == self._last():
            raise WrongModelError(f"{folder}: after the swap the model still answers as the one before it")
        self.current = fingerprint

    def require_probe(self, core: Core, folder: Path, fingerprint: str) -> None:
        """Raise WrongModelError if weights seen before answer the probe in another way than they did."""
        values = probe(core)
        before = self.probes.setdefault(fingerprint, values)
        if max(abs(a - b) for a, b in zip(values, before, strict=True)) > _SAME_PROBE:
            raise WrongModelError(
                f"{folder}: the model answers a fixed prompt in another way than when it was first served"
            )

    def _last(self) -> tuple[float, ...] | None:
        return None if self.current is None else self.probes.get(self.current)


def probe(core: Core) -> tuple[float, ...]:
    """Log-probabilities of a fixed prompt, spread over the vocabulary."""
    return tuple(value for value, _ in _probe_pairs(core))


def divide_logits(core: Core, temperature: float) -> None:
    """Make the core score at `temperature`. Raises ForeshockError if its numbers do not show it.

    At every position log p(x) - log p(best) must become 1/tau of what it is at temperature 1.
    """
    if temperature == 1:
        return
    plain = _probe_pairs(core)
    core.call("foreshock_divide_logits", temperature)
    for (own, best), (own_1, best_1) in zip(_probe_pairs(core), plain, strict=True):
        expected = (own_1 - best_1) / temperature
        if abs((own - best) - expected) > _TEMPERED * (1 + abs(expected)):
            core.call("foreshock_divide_logits", 1.0)
            raise ForeshockError(
                f"vLLM's prompt log-probabilities do not follow temperature {temperature}: a token lies "
                f"{best - own:.4f} nats below the best, expected {-expected:.4f}; score with engine transformers"
            )


def _probe_pairs(core: Core) -> list[tuple[float, float]]:
    """For each position of the fixed prompt: log p of its token, and of the likeliest one."""
    vocabulary = core.limits.vocab_size
    length = min(_PROBE_LENGTH, (core.limits.context_length or _PROBE_LENGTH + 1) - 1)
    tokens = tuple((17 + 7919 * i) % vocabulary for i in range(length))
    core.add(CoreRequest("probe", tokens, score=True, best=True))
    while True:
        for result in core.step():
            if result.key == "probe":
                if result.prompt_logprobs is None or result.prompt_best is None:
                    raise ForeshockError(f"vLLM scored no prompt: {result.error or 'no log-probabilities came back'}")
                pairs = zip(result.prompt_logprobs, result.prompt_best, strict=True)
                return [(own, best) for own, best in pairs if own is not None and best is not None]


def mislabelled(result: CoreResult, fingerprint: str) -> str | None:
    """What is wrong if a token's label is not that of the loaded checkpoint; None if every one is."""
    if set(result.versions) == {fingerprint}:
        return None
    return f"generated by weights labelled {', '.join(result.versions) or 'nothing'}, not by {fingerprint[:12]}"
