"""The analyses, in the order of the report; those of installed packages follow, by name."""

from __future__ import annotations

from foreshock.analysis.analyses.analysis import Analysis
from foreshock.plugins import Registry

_HERE = "foreshock.analysis.analyses"

ANALYSES: Registry[Analysis] = Registry(
    "analysis",
    "foreshock.analyses",
    f"{_HERE}.analysis:Analysis",
    {
        "behaviour": f"{_HERE}.behaviour:ANALYSIS",
        "rates": f"{_HERE}.rates:ANALYSIS",
        "splitting": f"{_HERE}.splitting:ANALYSIS",
        "exploit_code": f"{_HERE}.exploit_code:ANALYSIS",
        "own_reasoning": f"{_HERE}.own_reasoning:ANALYSIS",
        "gp": f"{_HERE}.gp:ANALYSIS",
        "calibration": f"{_HERE}.calibration:ANALYSIS",
        "adaptive": f"{_HERE}.adaptive:ANALYSIS",
        "forecast": f"{_HERE}.forecast:ANALYSIS",
        "emergence": f"{_HERE}.emergence:ANALYSIS",
    },
)


def in_order() -> list[str]:
    """Every name, foreshock's own first."""
    return [*ANALYSES.own, *(name for name in ANALYSES.names() if name not in ANALYSES.own)]
