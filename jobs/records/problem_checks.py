"""What a run records of the check of its problems, in sentences for plan and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def check_lines(document: Mapping[str, Any]) -> list[str]:
    """What a plan's record says, in sentences; empty when every problem was checked and is consistent."""
    if not document:
        return []
    bad: Iterable[Mapping[str, Any]] = document.get("inconsistent") or ()
    lines = []
    what = "kept (--keep-inconsistent)" if document.get("kept") else "left out"
    lines += [f"problem {one['id']} is inconsistent, {what}: {'; '.join(one['reasons'])}" for one in bad]
    without = document.get("without_verdict") or ()
    if without:
        lines.append(f"{len(without)} problems could not be checked (no verdict): {', '.join(without[:5])}")
    reason = document.get("not_checked")
    if reason:
        lines.append(f"the problems were not checked: {reason}")
    return lines
