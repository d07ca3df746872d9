"""What the appendix says of a headline's prior and levels."""

from __future__ import annotations

import numpy as np
from benchmarks.calibration.worlds import paths

from foreshock.analysis.headline.estimate import estimate_headline
from foreshock.analysis.headline.sensitivity import headline_sensitivity, headline_sensitivity_summary


def test_every_level_is_left_out_once_and_changes_are_against_the_published_medians() -> None:
    world = next(w for w in (paths.draw_world(np.random.default_rng(seed)) for seed in range(40)) if _has_estimates(w))
    headline = estimate_headline(world.evidence)
    table = headline_sensitivity(world.evidence, headline)
    above = [int(level) for level in world.evidence.levels if level > 0]
    names = table["variant"].unique().tolist()
    assert [name for name in names if name.startswith("without")] == [f"without level {level}" for level in above]
    assert len(table) == len(names) * int(headline.verdict.estimate.sum())
    one = table[table["variant"] == names[0]]
    published = headline.median[headline.verdict.estimate]
    assert np.allclose(one["log10_rate"] - one["change"], published)
    summary = headline_sensitivity_summary(table)
    assert summary["variant"].tolist() == names
    assert (summary["largest_change"] >= summary["typical_change"]).all()


def _has_estimates(world: object) -> bool:
    evidence = world.evidence  # type: ignore[attr-defined]  # a World
    return (evidence.levels > 0).sum() > 1 and bool(estimate_headline(evidence).verdict.estimate.any())
