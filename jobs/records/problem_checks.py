"""What a run records of the check of its problems, in sentences for plan and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def check_summary(document: Mapping[str, Any]) -> str | None:
    """How many problems were checked and what came of it; None where nothing is recorded."""
    n_checked = document.get("checked")
    if not isinstance(n_checked, int):
        return None
    bad, without = len(document.get("inconsistent") or ()), len(document.get("without_verdict") or ())
    if not n_checked:
        return "not checked"
    what = "kept" if document.get("kept") else "left out"
    parts = [f"{n_checked - bad - without} of {n_checked} consistent"]
    parts += [f"{bad} inconsistent, {what}"] if bad else []
    parts += [f"{without} without a verdict"] if without else []
    return ", ".join(parts)


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
    untried = document.get("without_exploit") or ()
    if untried:
        lines.append(
            f"without an exploit of its own, so that nothing shows its weak verifier can be exploited: {len(untried)} "
            f"of the problems ({', '.join(untried[:5])}{', ...' if len(untried) > 5 else ''})"
        )
    untold = document.get("without_info") or ()
    if untold:
        lines.append(
            f"without insecure_verifier_info, so that prompts announce a verifier and show none: {len(untold)} of the "
            f"problems ({', '.join(untold[:5])}{', ...' if len(untold) > 5 else ''}); say the weakness there, or "
            "give prompt.instructions a text without it"
        )
    reason = document.get("not_checked")
    if reason:
        lines.append(f"the problems were not checked: {reason}")
    return lines
