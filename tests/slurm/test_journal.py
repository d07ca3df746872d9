"""The submission journal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foreshock.errors import InputError
from foreshock.slurm.journal import Journal, Stage, new_submission


def test_an_entry_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    entry = new_submission(3, [[[0], [1, 7]], [[2]]], "gpu", 2, {"profile": {"time": 5}})
    journal = Journal(tmp_path)
    journal.save(entry)
    assert journal.load_all() == [entry]
    assert [job.name for job in entry.jobs] == [f"fs-{entry.token}-{end}" for end in ("a0", "a1", "end")]


def test_progress_of_one_job_leaves_the_others_alone(tmp_path: Path) -> None:
    entry = new_submission(0, [[[0]], [[1]]], "gpu", 0, {})
    done = entry
    for job in entry.jobs:
        assert not done.complete
        done = done.with_job(replace(job, stage=Stage.SUBMITTED, job_id=7))
    assert done.complete
    assert [job.elements for job in done.jobs] == [job.elements for job in entry.jobs]


def test_tokens_differ(tmp_path: Path) -> None:
    assert new_submission(0, [], "gpu", 0, {}).token != new_submission(0, [], "gpu", 0, {}).token


def test_submissions_come_oldest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for pack in (2, 0, 1):
        journal.save(new_submission(pack, [], "gpu", 0, {}))
    assert [entry.pack for entry in journal.load_all()] == [0, 1, 2]


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save(new_submission(0, [], "gpu", 0, {}))
    path = journal.folder(0) / "submission.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(InputError, match=r"submission\.json: not a submission journal"):
        journal.load_all()


def test_saving_leaves_no_temporary_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save(new_submission(0, [], "gpu", 0, {}))
    assert [path.name for path in journal.folder(0).iterdir()] == ["submission.json"]
