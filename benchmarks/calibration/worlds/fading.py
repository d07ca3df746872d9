"""Worlds in which the target exploits in words of its own before it does so in the donor's, all else being alike.

Where it does not exploit it writes as the donor does, so mean weights after few words are sound and nothing but rare
exploits themselves can tell that most of them are not among the prefixes.
"""

from __future__ import annotations

from benchmarks.calibration.worlds import chains, phrases, traits
from benchmarks.calibration.worlds.sweep import Rng, World

_MAKERS = {"traits": traits.draw_world, "chains": chains.draw_world, "phrases": phrases.draw_world}
KINDS = tuple(f"{name}: own words fade" for name in _MAKERS)


def draw_world(rng: Rng, kind: str = "any") -> World:
    """One world; `kind` is one of KINDS or `any`."""
    kind = str(rng.choice(KINDS)) if kind == "any" else kind
    return _MAKERS[kind.split(":")[0]](rng, kind)
