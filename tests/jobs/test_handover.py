"""Handing finished rows on: nothing lost, nothing late, nothing unbounded, errors on both sides."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.handover import Handover


@given(
    puts=st.lists(st.lists(st.integers(), max_size=5), max_size=30),
    rows=st.integers(1, 9),
    most_waiting=st.integers(1, 9),
)
def test_everything_arrives_in_order_and_what_was_put_together_stays_together(
    puts: list[list[int]], rows: int, most_waiting: int
) -> None:
    received: list[Sequence[int]] = []
    with Handover(received.append, rows=rows, seconds=60.0, most_waiting=most_waiting) as handover:
        for items in puts:
            handover.put(items)
    assert [item for items in received for item in items] == [item for items in puts for item in items]
    ends, at = set(), 0
    for items in puts:
        at += len(items)
        ends.add(at)
    at = 0
    for taken in received:
        at += len(taken)
        assert at in ends


def test_rows_do_not_wait_for_the_next_one() -> None:
    arrived = threading.Event()
    with Handover(lambda _: arrived.set(), rows=100, seconds=0.05, most_waiting=100) as handover:
        handover.put([1])
        assert arrived.wait(10)


def test_many_rows_do_not_wait_for_the_clock() -> None:
    arrived = threading.Event()
    with Handover(lambda _: arrived.set(), rows=3, seconds=600.0, most_waiting=100) as handover:
        for item in range(3):
            handover.put([item])
        assert arrived.wait(10)


def test_a_slow_receiver_bounds_what_waits_and_the_wait_is_told() -> None:
    sizes: list[int] = []

    def receive(items: Sequence[int]) -> None:
        sizes.append(len(items))
        time.sleep(0.02)

    with Handover(receive, rows=1, seconds=0.0, most_waiting=4) as handover:
        for item in range(40):
            handover.put([item])
    assert sum(sizes) == 40
    assert max(sizes) <= 4
    assert handover.blocked_s > 0


def test_an_error_of_the_receiver_reaches_whoever_hands_over() -> None:
    def receive(_: Sequence[int]) -> None:
        raise OSError("no space left")

    def hand_over() -> None:
        with Handover(receive, rows=1, seconds=0.0, most_waiting=1) as handover:
            for item in range(1000):
                handover.put([item])
                time.sleep(0.001)
            put_all.append(True)

    put_all: list[bool] = []
    with pytest.raises(OSError, match="no space left"):
        hand_over()
    assert put_all == []


def test_an_error_of_the_receiver_at_the_very_end_is_not_lost() -> None:
    def receive(_: Sequence[int]) -> None:
        raise OSError("no space left")

    handover = Handover(receive, rows=100, seconds=60.0, most_waiting=100)
    with pytest.raises(OSError, match="no space left"), handover:
        handover.put([1])


def test_what_was_finished_before_an_error_of_the_engine_arrives() -> None:
    received: list[int] = []

    def fail() -> None:
        with Handover(received.extend, rows=100, seconds=60.0, most_waiting=100) as handover:
            handover.put([1, 2])
            raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        fail()
    assert received == [1, 2]


def test_whoever_leaves_at_once_waits_only_for_what_is_being_received() -> None:
    received: list[int] = []
    busy, go_on = threading.Event(), threading.Event()

    def receive(items: Sequence[int]) -> None:
        busy.set()
        go_on.wait(10)
        received.extend(items)

    def leave() -> None:
        with Handover(receive, rows=1, seconds=0.0, most_waiting=100) as handover:
            handover.put([1])
            busy.wait(10)
            handover.put([2])
            threading.Timer(1.0, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert received == [1]
