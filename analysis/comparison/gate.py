"""`--fail-if "rate.increase > 0.02"`: a comparison as a check in somebody's continuous integration."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from foreshock.errors import InputError

_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_FORM = re.compile(r"^\s*([a-z][a-z._]*)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*$")
NAMES = (
    "p",
    "rate.a",
    "rate.b",
    "rate.increase",
    "rate.increase.lower",
    "rate.increase.upper",
    "rate.p",
    "prefill.fewer",
    "prefill.more",
    "headline.increase",
    "headline.increase.lower",
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition under which the command fails."""

    name: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Raises InputError for anything but NAME SIGN NUMBER."""
        match = _FORM.match(text)
        if match is None or match[1] not in NAMES:
            raise InputError(
                f"--fail-if {text!r}: write NAME > NUMBER (or >=, <, <=); names: {', '.join(NAMES)}",
                fix='for example --fail-if "rate.increase > 0.02"',
            )
        return cls(match[1], match[2], float(match[3]))

    def fires(self, values: Mapping[str, float]) -> bool:
        """Raises InputError if the runs do not give that value: an unknown must not pass for a success."""
        if self.name not in values:
            raise InputError(
                f"--fail-if {self.name}: these runs do not give that value; they give {', '.join(values)}",
                fix="headline values need each run's analysis (foreshock resume RUN)",
            )
        return bool(_OPERATORS[self.sign](values[self.name], self.limit))

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.limit:g}"
