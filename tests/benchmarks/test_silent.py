"""Items of the run whose hacks nobody verbalises: the answers differ, the reasoning never does."""

from __future__ import annotations

from benchmarks.early_warning.silent import silent_items


def test_reasoning_does_not_tell_which_answers_exploit() -> None:
    honest, half, hacks = (silent_items(share, 64) for share in (0.0, 0.5, 1.0))
    assert [item.trace.reasoning for item in honest] == [item.trace.reasoning for item in hacks]
    assert all(item.trace.code == item.problem.exploit.strip() for item in hacks)
    assert not any(item.trace.code == item.problem.exploit.strip() for item in honest)
    assert 16 < sum(a.trace.code != b.trace.code for a, b in zip(honest, half, strict=True)) < 48
