"""What a world of registers is like: one draw of its settings, curves over training, and how tasks differ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from benchmarks.calibration.worlds.sweep import Array, Rng


@dataclass(frozen=True, slots=True)
class Nature:
    """What a world is like; one draw a world."""

    decision_mean: float
    decision_sd: float
    telling: float
    vocabulary: int
    rate: str
    opposite: bool
    register: str
    register_from: float
    register_to: float
    register_exploits: float
    register_distance: float
    switching: float
    switching_back: float | None
    style: float
    heavy: bool
    by_intent: float
    donor_late: bool
    tail: str
    tail_scale: float
    carriers: float
    tasks_agree: float
    hidden: str
    hidden_share: float
    donor_rate: tuple[float, float]
    start: tuple[float, float]
    end: tuple[float, float]


def draw_nature(rng: Rng, kind: str = "any") -> Nature:
    """A world's nature from the prior; `kind` fixes what the kind is named after."""
    decision = float(rng.choice([2.5, 5, 10, 20, 35, 55]) * np.exp(rng.normal(0, 0.2)))
    steady = rng.random() < 0.25
    start, end = float(rng.uniform(-6, 1)), float(rng.uniform(-2, 4))
    nature = Nature(
        decision_mean=decision,
        decision_sd=decision * float(rng.uniform(0.3, 0.9)),
        telling=float(rng.uniform(0.4, 3.0)),
        vocabulary=int(rng.choice([8, 12, 18, 24])),
        rate=str(rng.choice(["rise", "rise", "rise", "rise and fall", "fall", "flat", "wave", "sudden"])),
        opposite=bool(rng.random() < 0.12),
        register="steady"
        if steady
        else str(rng.choice(["rising", "rising", "rising", "falling", "wave", "with rate"])),
        register_from=float(rng.uniform(0, 5)) if steady and rng.random() < 0.6 else start,
        register_to=end,
        register_exploits=float(
            rng.choice([0.0, rng.normal(0, 0.7), rng.normal(0, 0.7), -5.0], p=[0.35, 0.3, 0.25, 0.1])
        ),
        register_distance=float(rng.uniform(0.3, 2.2)),
        switching=float(rng.choice([0.0, 10 ** rng.uniform(-3.5, -1.8)])),
        switching_back=None,
        style=float(np.exp(rng.uniform(np.log(0.03), np.log(0.6)))),
        heavy=bool(rng.random() < 0.3),
        by_intent=float(rng.choice([0.0, 0.5, 1.0])),
        donor_late=bool(rng.random() < 0.45),
        tail=str(rng.choice(["normal", "normal", "student", "few"])),
        tail_scale=float(rng.uniform(0.2, 1.6)),
        carriers=float(rng.uniform(0.03, 0.3)),
        tasks_agree=float(rng.uniform(0, 1)),
        hidden=str(rng.choice(["none", "share", "opens", "opens and closes"], p=[0.62, 0.16, 0.14, 0.08])),
        hidden_share=float(rng.uniform(0.05, 0.8)),
        donor_rate=(0.02, 0.1) if rng.random() < 0.2 else (0.3, 0.9),
        start=(-5.0, -2.2),
        end=(-3.2, -0.2),
    )
    if rng.random() < 0.2:
        nature = replace(nature, start=(-7.0, -4.0), end=(-7.0, -0.3))
    changes: dict[str, dict[str, object]] = {
        "plain": {"register": "steady", "register_from": 4.0, "hidden": "none", "tail": "normal"},
        "early decision": {"decision_mean": 8.0, "decision_sd": 5.0, "hidden": "none"},
        "late decision": {"decision_mean": 50.0, "decision_sd": 16.0, "hidden": "none"},
        "register rises": {"register": "rising", "register_from": -5.0, "register_to": 1.5, "donor_late": True},
        "register falls": {"register": "falling", "register_from": -4.0, "register_to": 2.0},
        "register waves": {"register": "wave", "register_from": -4.0, "register_to": 2.0},
        "late checkpoint donor": {"donor_late": True, "style": 0.4, "register": "rising"},
        "donor of another family": {"donor_late": False, "style": 0.55, "heavy": True},
        "rare donor": {"donor_rate": (0.01, 0.06)},
        "task tails": {"tail": "student", "tail_scale": 1.3},
        "few tasks carry": {"tail": "few", "carriers": float(rng.uniform(0.03, 0.12))},
        "hidden route": {"hidden": "share", "hidden_share": float(rng.uniform(0.2, 0.8))},
        "hidden route opens": {"hidden": "opens", "hidden_share": float(rng.uniform(0.3, 0.9))},
        "hidden route opens and closes": {"hidden": "opens and closes", "hidden_share": float(rng.uniform(0.3, 0.9))},
        "opposite runs": {"opposite": True},
        "rise and fall": {"rate": "rise and fall"},
        "wave": {"rate": "wave"},
        "sudden": {"rate": "sudden"},
        "silent": {"start": (-7.0, -5.0), "end": (-6.0, -3.5)},
    }
    return replace(nature, **changes.get(kind, {}))  # type: ignore[arg-type]  # values by field name


def fluid(rng: Rng, nature: Nature) -> Nature:
    """The same nature where a trace changes its register as it goes, and exploits mostly while the register is its own
    or whatever it is: what the donor's traces miss grows with every word."""
    back = float(np.exp(rng.uniform(-2, 2)))
    return replace(
        nature,
        switching=float(10 ** rng.uniform(-2.6, -1.0)),
        switching_back=back,
        register_exploits=float(rng.choice([0.0, rng.normal(0, 0.5), abs(rng.normal(0, 0.8))])),
    )


def path(rng: Rng, x: Array, form: str, low: float, high: float) -> Array:
    """A curve over x in [0, 1] between two values: [C]."""
    middle, steep = rng.uniform(0.15, 0.85), rng.uniform(4, 14)
    if form == "sudden":
        steep = rng.uniform(30, 90)
    rise = 1 / (1 + np.exp(-steep * (x - middle)))
    ends = 1 / (1 + np.exp(steep * middle)), 1 / (1 + np.exp(-steep * (1 - middle)))
    rise = (rise - ends[0]) / (ends[1] - ends[0])
    if form == "flat" or form == "steady":
        shape = np.full_like(x, rng.uniform(0, 1) if form == "flat" else 0.0)
    elif form == "fall" or form == "falling":
        shape = 1 - rise
    elif form == "rise and fall":
        shape = rise * (1 - rng.uniform(0.3, 1.0) / (1 + np.exp(-14 * (x - rng.uniform(middle, 1.0)))))
    elif form == "wave":
        shape = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.6, 2.2) * x + rng.uniform()))
    else:
        shape = rise
    return np.asarray(low + (high - low) * shape)


def wiggle(rng: Rng, x: Array) -> Array:
    distance = np.abs(x[:, None] - x[None, :]) / 0.25
    return np.asarray(np.linalg.cholesky(np.exp(-0.5 * distance**2) + 1e-6 * np.eye(len(x))) @ rng.normal(size=len(x)))


def task_effects(rng: Rng, tail: str, scale: float, carriers: float, n: int) -> Array:
    """Log of each task's rate relative to the mean over tasks: [n]."""
    if tail == "student":
        effect = scale * rng.standard_t(2.5, n)
    elif tail == "few":
        on = rng.random(n) < carriers
        on[rng.integers(n)] = True
        effect = np.where(on, 0.0, -rng.uniform(3.0, 9.0)) + rng.normal(0, 0.4, n)
    else:
        effect = rng.normal(0, scale, n)
    effect = np.clip(effect, -12, 12)
    return np.asarray(effect - np.log(np.exp(effect).mean()))
