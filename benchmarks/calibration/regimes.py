"""The kinds of simulated experiment: when the exploit is decided, what the donor is, how large the sweep is.

A regime fixes the *kind* of world and leaves nuisance quantities (how telling exploit words are, how far the
checkpoint's style is from the donor's, how fast a type grows) as ranges that each simulated experiment draws from. An
estimator tuned to one set of nuisance values is therefore found out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

STANDARD_LEVELS = (0, 2, 5, 10, 20, 30, 45, 60, 75, 100)
STANDARD_CHECKPOINTS = (1, 2, 5, 10, 20, 40, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a uniform draw."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Regime:
    """One kind of experiment.

    `decision_mean` and `decision_sd` (words) place the hazard of turning to the exploit: a Gamma density of
    that mean and standard deviation over word positions. Rates are log10 of the intensity of turning.
    `hidden_route` is the share of the target's turning intensity that goes to a route no donor trace shows.
    `style_sd` is the sd of the target's log word probabilities around the donor's, `telling` the nats by which intent
    raises its words; `heavy_style` draws the style from a t distribution with 3 degrees of freedom, `state_style` is
    the part that differs between honest and exploiting words. `graded` is the world of graded.py. The donor takes the
    second route with the share `donor_second_route`. A type rises at `rise_at` of the log steps and loses the share
    `fall` of its rise again. The target writes in the donor's register with probability exp(-`register_nats`), else in
    one that donors never use. `missing` is the share of cells that were not run.
    """

    name: str
    decision_mean: float
    decision_sd: float
    donor_conditioned: bool = True
    donor_rate: Range = Range(0.3, 0.8)
    donor_pool: int = 64
    attempts: int = 1
    hidden_route: Range = Range(0.0, 0.0)
    n_types: int = 8
    runs: tuple[str, ...] = ("exploit", "control")
    checkpoints: tuple[int, ...] = STANDARD_CHECKPOINTS
    levels: tuple[int, ...] = STANDARD_LEVELS
    tasks: Range = Range(24, 88)
    style_sd: Range = Range(0.15, 0.40)
    telling: Range = Range(0.7, 2.5)
    task_sd: Range = Range(0.3, 1.0)
    start_log10: Range = Range(-5.0, -2.5)
    end_log10_exploit: Range = Range(-3.0, -0.2)
    end_log10_control: Range = Range(-5.0, -1.8)
    wiggle_log10: float = 0.12
    n_words: int = 24
    heavy_style: bool = False
    graded: bool = False
    donor_second_route: Range = Range(0.0, 0.0)
    state_style: float = 0.5
    rise_at: Range = Range(0.2, 0.8)
    rise_slope: Range = Range(3.0, 12.0)
    fall: Range = Range(0.0, 0.0)
    register_nats: Range = Range(0.0, 0.0)
    missing: float = 0.0
    donor_rollouts_level0: int = 16
    donor_rollouts_level_n: int = 4


_EARLY = Regime("early", decision_mean=10.0, decision_sd=7.0)
_LATE = Regime("late", decision_mean=50.0, decision_sd=18.0)

_GRADED = replace(_EARLY, name="graded", graded=True)
# Words of very unequal surprisal, donors of another family, uneven tasks.
_HARD = replace(
    _EARLY, name="hard", style_sd=Range(0.3, 0.6), heavy_style=True, state_style=1.0, task_sd=Range(0.5, 1.5)
)

REGIMES: dict[str, Regime] = {
    regime.name: regime
    for regime in (
        _EARLY,
        Regime("very_early", decision_mean=3.0, decision_sd=2.0),
        _LATE,
        replace(_EARLY, name="early_unconditioned", donor_conditioned=False),
        replace(_LATE, name="late_unconditioned", donor_conditioned=False),
        replace(_EARLY, name="rare_donor", donor_rate=Range(0.01, 0.06)),
        replace(_EARLY, name="attempts4", attempts=4),
        replace(_LATE, name="late_attempts4", attempts=4, tasks=Range(16, 40)),
        replace(_EARLY, name="hidden_route", hidden_route=Range(0.1, 0.6)),
        replace(_EARLY, name="few_tasks", tasks=Range(10, 24)),
        replace(_EARLY, name="few_types", n_types=3, tasks=Range(30, 60)),
        replace(
            _EARLY,
            name="short_sweep",
            checkpoints=(5, 20, 50, 100),
            levels=(0, 10, 30, 100),
        ),
        replace(
            _LATE,
            name="long_sweep",
            checkpoints=(1, 2, 3, 5, 8, 13, 20, 32, 50, 70, 90, 120, 160, 200),
            levels=(0, 5, 20, 50, 100),
        ),
        # Worlds that are meant to be hard: unlike the ones above in kind, and unlike each other.
        replace(_GRADED, name="graded"),
        replace(_GRADED, name="graded_late", decision_mean=50.0, decision_sd=14.0),
        replace(_GRADED, name="graded_unconditioned", donor_conditioned=False),
        replace(_GRADED, name="graded_far", style_sd=Range(0.35, 0.65), heavy_style=True),
        replace(_HARD, name="hard"),
        replace(_HARD, name="hard_unconditioned", donor_conditioned=False),
        replace(_HARD, name="hard_very_early", decision_mean=3.0, decision_sd=2.0),
        replace(_HARD, name="hard_late", decision_mean=50.0, decision_sd=18.0),
        replace(_HARD, name="hard_attempts4", attempts=4, tasks=Range(12, 40)),
        replace(_HARD, name="two_routes", donor_second_route=Range(0.02, 0.3), hidden_route=Range(0.1, 0.9)),
        replace(_EARLY, name="other_register", register_nats=Range(0.5, 3.0)),
        replace(_EARLY, name="rise_and_fall", fall=Range(0.3, 0.9), rise_at=Range(0.1, 0.5)),
        replace(_EARLY, name="sudden", rise_slope=Range(20.0, 60.0), rise_at=Range(0.1, 0.9)),
        replace(
            _EARLY,
            name="silent_control",
            start_log10=Range(-6.0, -4.5),
            end_log10_exploit=Range(-2.0, 0.0),
            end_log10_control=Range(-6.0, -4.5),
        ),
        replace(_EARLY, name="missing_cells", missing=0.3),
        # Nuisances pushed to their ends: development only, to see what breaks.
        replace(_EARLY, name="near_donor", style_sd=Range(0.02, 0.10)),
        replace(_EARLY, name="far_donor", style_sd=Range(0.40, 0.60)),
        replace(_EARLY, name="loud_words", telling=Range(3.0, 5.0)),
        replace(_LATE, name="late_loud_words", telling=Range(3.0, 5.0)),
        replace(_EARLY, name="quiet_words", telling=Range(0.3, 0.7)),
        replace(_EARLY, name="uneven_tasks", task_sd=Range(1.2, 2.0)),
        replace(_EARLY, name="small_vocabulary", n_words=6, telling=Range(1.0, 3.0)),
        replace(_EARLY, name="heavy_style", heavy_style=True),
        replace(_EARLY, name="strong_hidden", hidden_route=Range(0.5, 0.98)),
        replace(_EARLY, name="null", end_log10_exploit=Range(-4.5, -2.5), end_log10_control=Range(-4.5, -2.5)),
    )
}


def regime_named(name: str) -> Regime:
    """The regime called `name`. Raises ValueError that lists the valid names."""
    if name not in REGIMES:
        raise ValueError(f"{name!r} is not a regime; valid: {', '.join(sorted(REGIMES))}")
    return REGIMES[name]
