"""What a contender did, in the figures that are compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from foreshock.jobs.records.rows import ERROR_KEY, Row


@dataclass
class Outcome:
    """Seconds are wall clock. `scoring_forwards` counts sequences run through the model to be scored, `scoring_tokens`
    their tokens; the last four are `Timeline`'s."""

    wall_s: float = 0.0
    engine_starts: int = 0
    swaps: int = 0
    start_s: float = 0.0
    generate_s: float = 0.0
    score_s: float = 0.0
    samples: int = 0
    output_tokens: int = 0
    scoring_forwards: int = 0
    scoring_tokens: int = 0
    failed_rows: int = 0
    least_left: int | None = None
    longest_absence_s: float = 0.0
    verify_s: float = 0.0
    verify_beside_s: float = 0.0

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Count evaluation rows."""
        for row in rows:
            self.samples += 1
            self.output_tokens += row.get("output_tokens") or 0
            self.failed_rows += row.get(ERROR_KEY) is not None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
