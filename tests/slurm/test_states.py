"""Reading squeue and sacct."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.slurm.states import JobState, expand_job_id, parse_elapsed, parse_sacct, parse_squeue, parse_state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("REQUEUED", JobState.PENDING),
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("OUT_OF_ME+", JobState.OUT_OF_MEMORY),
        ("DEADLINE", JobState.TIMEOUT),
        ("NODE_FAIL", JobState.NODE_FAIL),
        ("PREEMPTED", JobState.PREEMPTED),
    ],
)
def test_states_as_slurm_writes_them(text: str, state: JobState) -> None:
    assert parse_state(text) is state


@pytest.mark.parametrize("text", ["", "  ", "SLEEPING", "RE"])
def test_an_unknown_state_is_a_state_and_no_end(text: str) -> None:
    assert parse_state(text) is JobState.UNKNOWN
    assert not JobState.UNKNOWN.is_final


def test_pending_and_running_are_not_final() -> None:
    not_final = {state for state in JobState if not state.is_final}
    assert not_final == {JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN}


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("7", [(7, None)]),
        ("7_3", [(7, 3)]),
        ("7_[0-2,5]", [(7, 0), (7, 1), (7, 2), (7, 5)]),
        ("7_[0-2%4]", [(7, 0), (7, 1), (7, 2)]),
        ("7_[0-6:3]", [(7, 0), (7, 3), (7, 6)]),
    ],
)
def test_job_ids_expand_to_elements(text: str, pairs: list[tuple[int, int | None]]) -> None:
    assert list(expand_job_id(text)) == pairs


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20)), min_size=1, max_size=8), st.integers(1, 99))
def test_any_list_of_ranges_expands_to_its_elements(spans: list[tuple[int, int]], throttle: int) -> None:
    text = ",".join(f"{low}-{low + n}" if n else str(low) for low, n in spans)
    expected = [element for low, n in spans for element in range(low, low + n + 1)]
    assert [element for _, element in expand_job_id(f"9_[{text}%{throttle}]")] == expected


@pytest.mark.parametrize("text", ["7_x", "abc", "7_[x-2]", "7.batch", "5+0", "", "\u0663"])
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int()'s own message
        list(expand_job_id(text))


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_elapsed_times_are_read_back(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
    assert parse_elapsed(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize(("text", "seconds"), [("1:05", 65), ("INVALID", 0), ("", 0), ("2:00:01", 7201)])
def test_short_and_absent_times(text: str, seconds: int) -> None:
    assert parse_elapsed(text) == seconds


SQUEUE = """\
6_4|fs-4db658f8-a0|RUNNING|0:17|n2|None
6_[5-7%2]|fs-4db658f8-a0|PENDING|0:00||BeginTime
7|fs-4db658f8-end|PENDING|0:00||Dependency

"""


def test_squeue_lines_become_records() -> None:
    records = parse_squeue(SQUEUE)
    assert [(r.job_id, r.element, r.state) for r in records] == [
        (6, 4, JobState.RUNNING),
        (6, 5, JobState.PENDING),
        (6, 6, JobState.PENDING),
        (6, 7, JobState.PENDING),
        (7, None, JobState.PENDING),
    ]
    assert records[0].node == "n2"
    assert records[0].elapsed_s == 17
    assert records[1].reason == "BeginTime"


SACCT = """\
6_0|fs-4db658f8-a0|REQUEUED|0:0|1|n1|2026-11-21T22:53:25
6_0|fs-4db658f8-a0|COMPLETED|0:0|3|n1|2026-11-21T22:53:25
6_1|fs-4db658f8-a0|FAILED|75:0|2|n2|2026-11-21T22:53:25
6_2|fs-4db658f8-a0|OUT_OF_MEMORY|0:125|2|n2|2026-11-21T22:53:25
6_3|fs-4db658f8-a0|CANCELLED by 1000|0:9|2|None assigned|2026-11-21T22:53:25
6_3.batch|batch|CANCELLED|0:9|2|n2|2026-11-21T22:53:25
"""


def test_a_requeued_attempt_waits_from_the_end_of_the_one_before() -> None:
    times = ("10:05:00", "10:30:00")  # started; the first ran for 20 minutes
    text = "".join(f"6_0|n|REQUEUED|0:0|1200|n1|2026-11-21T10:00:00|2026-11-21T{start}\n" for start in times)
    assert [record.waited_s for record in parse_sacct(text)] == [300, 300]


def test_sacct_lines_become_one_record_an_attempt() -> None:
    records = parse_sacct(SACCT)
    assert [(r.element, r.state, r.exit_code) for r in records] == [
        (0, JobState.PENDING, 0),
        (0, JobState.COMPLETED, 0),
        (1, JobState.FAILED, 75),
        (2, JobState.OUT_OF_MEMORY, 0),
        (3, JobState.CANCELLED, 137),
    ]
    assert records[4].node is None
