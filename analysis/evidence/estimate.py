"""One rate estimate with its intervals: the row of rates.csv.

What is unknown is None and becomes an empty field. A cell without a success has no direct log rate, only an upper
limit; an importance-sampling mean whose diagnostics fail is a statement about the lower side and has no upper limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What an estimate may be used as."""

    ESTIMATE = "estimate"
    BOUND = "bound"
    UNOBSERVED = "unobserved"


class Method(StrEnum):
    """How a rate was estimated; the value is the name in rates.csv (docs/methods.md has a section for each)."""

    HEADLINE = "headline"
    DIRECT = "direct"
    IMPORTANCE = "importance"
    IMPORTANCE_DEFENSIVE = "importance_defensive"
    JENSEN_BOUND = "jensen_bound"
    SURPRISAL_BOUND = "surprisal_bound"


@dataclass(frozen=True, slots=True)
class Limits:
    """Interval end points, log10 of the rate; None where there is no limit on that side."""

    lower90: float | None = None
    upper90: float | None = None
    lower95: float | None = None
    upper95: float | None = None


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """The unprompted exploit rate of one (run, exploit type, checkpoint) by one method.

    `n` and `successes` count the attempts the method used: level-0 attempts for `headline` and `direct`, attempts
    of the chosen prefill level for the others. `log10_rate` is a median or point estimate, or the bound itself; a
    headline row that is not an estimate has none. `reason` says why a row is not an estimate.
    """

    run: str
    exploit_type: str
    checkpoint: int
    method: Method
    n: int
    successes: int
    log10_rate: float | None
    limits: Limits
    status: Status
    ess: float | None = None
    pareto_k: float | None = None
    reason: str = ""


COLUMNS = (
    "run",
    "exploit_type",
    "checkpoint",
    "method",
    "n",
    "successes",
    "log10_rate",
    "lower90",
    "upper90",
    "lower95",
    "upper95",
    "status",
    "ess",
    "pareto_k",
    "reason",
)


def as_row(estimate: RateEstimate) -> dict[str, str | int | float | None]:
    """The estimate as one CSV row, keys as COLUMNS."""
    return {
        "run": estimate.run,
        "exploit_type": estimate.exploit_type,
        "checkpoint": estimate.checkpoint,
        "method": estimate.method.value,
        "n": estimate.n,
        "successes": estimate.successes,
        "log10_rate": estimate.log10_rate,
        "lower90": estimate.limits.lower90,
        "upper90": estimate.limits.upper90,
        "lower95": estimate.limits.lower95,
        "upper95": estimate.limits.upper95,
        "status": estimate.status.value,
        "ess": estimate.ess,
        "pareto_k": estimate.pareto_k,
        "reason": estimate.reason,
    }
