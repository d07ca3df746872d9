"""What Slurm's commands print at real sites, and lines of other jobs among our own.

Sources: `slaking` is Parsl's pull request 2636, `clustername` clusterfutures' 24, the bare number dask-jobqueue's issue
209, the launch failure burrmill's issue 15. Recordings of whole versions are read in test_versions.py.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.slurm.reasons import explain
from foreshock.slurm.states import JobState, parse_sacct, parse_squeue
from foreshock.slurm.submit import parse_job_id


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("Submitted batch job 60060368 on cluster slaking\n", 60060368),
        ("75168975;clustername\n", 75168975),
        ("15786755\n", 15786755),
        ("sbatch: INFO: a note of the site, see job 99\nSubmitted batch job 1001\n", 1001),
        ("Welcome!\n  1001\nYour quota: 17 of 20 jobs\n", 1001),
        ("Your job is on its way.\n", None),
        ("", None),
    ],
)
def test_the_id_in_what_sites_print(text: str, job_id: int | None) -> None:
    assert parse_job_id(text) == job_id


FOREIGN = """\
CLUSTER: nautilus
9380968+0|climate|RUNNING|1:02|n1|None
77|train|lr=1e-4|RUNNING|1:02|n1|None
78|x|EXPEDITING|1:02|n1|None
79|y|SOMETHING_NEW|1:02|n1|None
squeue: warning: the site says hello
6_4|run_1-8_fs-4db658f8-a0|RUNNING|0:17|n2|None
"""


def test_the_mark_of_memory_that_ran_out_is_no_signal() -> None:
    """`0:125` with OUT_OF_MEMORY: galaxyproject/galaxy pull request 6832, Slurm 17.11."""
    (record,) = parse_sacct("7_3|name|OUT_OF_MEMORY|0:125|3|n1|2026-01-01T00:00:00|2026-01-01T00:01:30")
    assert (record.state, record.exit_code, record.waited_s) == (JobState.OUT_OF_MEMORY, 0, 90)
    (record,) = parse_sacct("7_3|name|FAILED|0:9|3|n1|2026-01-01T00:00:00|Unknown")
    assert (record.exit_code, record.waited_s) == (137, 0)


def test_foreign_lines_are_passed_over_and_bars_in_names_are_the_names() -> None:
    records = parse_squeue(FOREIGN)
    assert [(r.job_id, r.name, r.state) for r in records] == [
        (77, "train|lr=1e-4", JobState.RUNNING),
        (78, "x", JobState.PENDING),
        (79, "y", JobState.UNKNOWN),
        (6, "run_1-8_fs-4db658f8-a0", JobState.RUNNING),
    ]
    assert records[2].said == "SOMETHING_NEW"


@given(st.text())
def test_no_text_breaks_reading(text: str) -> None:
    for record in [*parse_squeue(text), *parse_sacct(text)]:
        assert record.job_id >= 0


@given(st.text(st.characters(exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1))
def test_any_name_is_read_back(name: str) -> None:
    (record,) = parse_squeue(f"7_3|{name}|PENDING|0:00||Priority")
    assert record.name == name.strip()
    (record,) = parse_sacct(f"7_3|{name}|FAILED|1:0|3|n1|2026-01-01T00:00:00")
    assert (record.name, record.exit_code) == (name, 1)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("JobHeldAdmin", "held by an administrator"),
        ("(JobHeldUser)", "scontrol release"),
        ("BeginTime", "two minutes"),
        ("launch failed requeued held", "a node could not start it"),
        ("AssocGrpGRES", "limits on you"),
        ("QOSMaxJobsPerUserLimit", "limits on you"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", "down, drained or reserved"),
        ("BadConstraints", "what no node has"),
        ("MadeUpIn2031", "does not know"),
    ],
)
def test_reasons_are_told_in_words(reason: str, words: str) -> None:
    assert words in (explain(reason) or "")


def test_no_reason_is_nothing_to_tell() -> None:
    assert explain("None") is None
