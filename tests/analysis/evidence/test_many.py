"""Evidence of very many checkpoints is of as many as can be estimated together, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_factory import ToyRun, write_run

from foreshock.analysis.evidence import load
from foreshock.analysis.evidence.load import load_evidence


def test_of_each_run_evenly_spaced_checkpoints_are_kept_and_named_in_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ToyRun(checkpoints=tuple(range(10, 110, 10)), levels=(0, 10), types=("hardcoding",), tasks_per_type=2)
    few = ToyRun(checkpoints=(7, 500), levels=(0, 10), types=("hardcoding",), tasks_per_type=2)
    runs = [write_run(tmp_path / name, toy) for name, toy in (("many", many), ("few", few))]
    whole = load_evidence(runs)
    assert not any("evenly spaced" in note for note in whole.notes)
    monkeypatch.setattr(load, "MOST_TOGETHER", 16)  # two surfaces, so 8 checkpoints, so 4 of a run
    part = load_evidence(runs)
    assert part.evidence.steps.tolist() == [7, 10, 40, 70, 100, 500]
    assert ["4 of its 10 checkpoints" in note for note in part.notes if "evenly spaced" in note] == [True]
    shown = whole.evidence.steps.searchsorted(part.evidence.steps)
    assert (whole.evidence.n[:, shown] == part.evidence.n).all()
    assert (whole.evidence.k[:, shown] == part.evidence.k).all()
