"""The alarm is set by false alarms: thresholds from quiet runs, refused where they are too few."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.batch.cli.watch_command import limits
from foreshock.batch.config import RunConfig
from foreshock.batch.watch.calibration import STATISTICS, Calibration, read_calibration
from foreshock.batch.watch.estimate import new_alarms
from foreshock.batch.watch.options import ScoreLimit
from foreshock.batch.watch.state import Outlook
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout

PEAKS = {"trace": [1.0, 2.0, 3.0], "code": [5.0, 6.0, 7.0], "forecast": [0.1, 0.2, 0.3]}


@given(st.lists(st.floats(0, 1), min_size=3, max_size=40, unique=True), st.floats(0.01, 0.9))
def test_a_further_quiet_run_passes_the_threshold_no_more_often_than_asked(peaks: list[float], rate: float) -> None:
    """Of n + 1 exchangeable runs, the last is above the j-th highest of the others with chance j / (n + 1)."""
    known = Calibration({"trace": tuple(peaks)}, "test")
    if rate < 1 / (len(peaks) + 1):
        with pytest.raises(InputError, match="cannot tell"):
            known.threshold("trace", rate)
        return
    above = sum(value >= known.threshold("trace", rate) for value in peaks)
    assert above / (len(peaks) + 1) <= rate + 1e-9
    assert (above + 1) / (len(peaks) + 1) > rate - 1e-9


def test_the_shipped_calibration_has_all_statistics_and_refuses_what_its_runs_cannot_tell() -> None:
    shipped = read_calibration()
    assert set(shipped.peaks) == set(STATISTICS)
    assert "early_warning" in shipped.source
    for statistic, peaks in shipped.peaks.items():
        with pytest.raises(InputError, match=f"{len(peaks)} quiet runs"):
            shipped.threshold(statistic, 0.9 / (len(peaks) + 1))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "no json",
        *(f'{{"source": "x", "peaks": {peaks}}}' for peaks in ('{"trace": ["a"]}', '{"trace": "123"}', "[1, 2]")),
        '{"source": "x", "peaks": {"trace": [true, false]}}',
        '{"source": "x", "peaks": {"forecast": [1.5]}}',
    ],
)
def test_a_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"own\.json"):
        read_calibration(path)
    path.write_text(json.dumps({"source": "mine", "peaks": {"trace": [1.0, float("inf")]}}))
    with pytest.raises(InputError, match="finite"):
        read_calibration(path)


def test_the_rate_sets_whichever_statistic_the_run_has(make_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"source": "mine", "peaks": PEAKS}))
    traced, plain = make_config(logprob={"whole_trace": True}), make_config()
    assert limits(traced, None, 0.25, own, quiet=True) == (1.1, ScoreLimit("trace", 3.0))
    assert limits(traced, None, 0.5, own, quiet=True, by="forecast") == (0.2, None)
    honest = make_config(logprob={"honest_reasoning": "own"})
    assert limits(honest, None, 0.5, own, quiet=True) == (0.2, None)  # by the code only where that is asked for
    assert limits(honest, None, 0.5, own, quiet=True, by="code") == (1.1, ScoreLimit("code", 6.0))
    for wrong, message in (("code", "not score that"), ("trace", "not score that"), ("else", "nothing to alarm")):
        with pytest.raises(InputError, match=message):
            limits(plain, None, 0.5, own, quiet=True, by=wrong)
    with pytest.raises(InputError, match="--alarm-by sets the alarm by a rate"):
        limits(honest, None, None, None, quiet=True, by="code")
    assert limits(plain, None, 0.5, own, quiet=True) == (0.2, None)
    assert limits(plain, None, None, None, quiet=True) == (0.5, None)
    assert limits(plain, 0.7, None, None, quiet=True) == (0.7, None)
    for probability, rate, calibration in ((0.5, 0.5, None), (None, None, own), (None, 0.1, own)):
        with pytest.raises(InputError, match="--false-alarm-rate"):
            limits(plain, probability, rate, calibration, quiet=True)


def test_types_alarm_by_what_their_traces_have_gained(tmp_path: Path) -> None:
    row = {"checkpoint": 4, "rate": None, "horizon": 8.0, "p_exceed": 0.1, "step_median": None}
    types = [
        row | {"exploit_type": "risen", "trace_change": 3.2},
        row | {"exploit_type": "flat", "trace_change": 0.1},
        row | {"exploit_type": "unscored", "trace_change": None},
    ]
    outlook = Outlook(["checkpoint-4"], 0.1, None, types)
    alarms = new_alarms(outlook, 1.1, set(), "run", RunLayout(tmp_path), [], ScoreLimit("trace", 2.0))
    assert [alarm.exploit_type for alarm in alarms] == ["risen"]
    assert "gained 3.2 nats" in alarms[0].message
    assert new_alarms(outlook, 1.1, {"risen"}, "run", RunLayout(tmp_path), [], ScoreLimit("trace", 2.0)) == []
    assert new_alarms(outlook, 1.1, set(), "run", RunLayout(tmp_path), []) == []
    types[1]["code_change"] = 4.0
    (alarm,) = new_alarms(outlook, 1.1, set(), "run", RunLayout(tmp_path), [], ScoreLimit("code", 4.0))
    assert (alarm.exploit_type, alarm.facts["code_nats"], alarm.facts["trace_nats"]) == ("flat", 4.0, None)
    assert "exploit code after honest reasoning gained 4.0 nats" in alarm.message
