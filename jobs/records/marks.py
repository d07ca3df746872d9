"""What a sampled row shows of its model's behaviour, and counts of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MEASURES = {
    "ended": "end their turn by a stop",
    "closed": "close their reasoning",
    "compiles": "yield code that compiles",
}
"""Name of each share, and what such rows do."""

_COMPILES = frozenset({"ok", "function_missing"})


class Marks(NamedTuple):
    """What one row shows; None where it does not say."""

    ended: bool | None
    closed: bool | None
    compiles: bool | None


def marks_of(row: Mapping[str, Any]) -> Marks:
    """Read off a row that foreshock wrote."""
    finish, closed, code = row.get("finish_reason"), row.get("reasoning_closed"), row.get("code_status")
    return Marks(
        None if finish is None else finish == "stop",
        closed if isinstance(closed, bool) else None,
        code in _COMPILES if isinstance(code, str) else None,
    )


def count(marks: Iterable[Marks]) -> dict[str, list[int]]:
    """Counts by measure, as a manifest holds them; measures of which nothing is known are left out."""
    found: dict[str, list[int]] = {name: [0, 0] for name in MEASURES}
    for own in marks:
        for name, value in zip(MEASURES, own, strict=True):
            if value is not None:
                found[name][0] += value
                found[name][1] += 1
    return {name: counts for name, counts in found.items() if counts[1]}
