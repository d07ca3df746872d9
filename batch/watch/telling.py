"""What a watch tells of itself: events, once or each time, and alarms by the ways that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from foreshock.batch.watch.deliver import deliver_pending, post, run_command, write_stop_file
from foreshock.batch.watch.options import COMMAND, SCORES, STOP_FILE, WEBHOOK, ScoreLimit, WatchOptions
from foreshock.batch.watch.state import Alarm, Outlook, WatchState
from foreshock.jobs.records.layout import RunLayout

Tell = Callable[[dict[str, Any]], None]
_OPTIONS = {STOP_FILE: "--stop-file", WEBHOOK: "--webhook", COMMAND: "--on-alarm"}


class Events:
    """Hands every event to `tell`: a dict with `event`, `time` and `message`, and the event's own facts."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._said: dict[str, str] = {}

    def say(self, event: str, message: str, **facts: Any) -> None:
        """Tell it."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        self._tell({"event": event, "time": when, "message": message} | facts)

    def say_once(self, event: str, subject: str, message: str) -> None:
        """Tell it unless it was the last thing said about this."""
        key = f"{event}/{subject}"
        if self._said.get(key) != message:
            self._said[key] = message
            self.say(event, message, **({"checkpoint": subject} if subject else {}))


def deliver(
    state: WatchState, layout: RunLayout, options: WatchOptions, events: Events, sleep: Callable[[float], None]
) -> None:
    """Try what is due of the alarms' deliveries; each outcome is on disk before the next is tried."""
    ways: dict[str, Callable[[dict[str, Any]], None]] = {}
    stop_file, webhook, on_alarm = options.stop_file, options.webhook, options.on_alarm
    if stop_file:
        ways[STOP_FILE] = lambda payload: write_stop_file(stop_file, payload)
    if webhook:
        ways[WEBHOOK] = lambda payload: post(webhook, payload, sleep)
    if on_alarm:
        ways[COMMAND] = lambda payload: run_command(on_alarm, payload)
    owed = {(alarm.id, _OPTIONS.get(way, way)) for alarm in state.alarms for way in alarm.pending if way not in ways}
    if owed:
        ids, missing = (sorted({pair[i] for pair in owed}) for i in (0, 1))
        events.say_once("owed", "", f"not delivered yet: {', '.join(ids)}; give {' and '.join(missing)} again")
    for alarm, way, problem in deliver_pending(state, ways):
        state.write(layout)
        if problem is None:
            events.say("delivered", f"alarm {alarm.id} delivered by {way}", id=alarm.id, by=way)
        else:
            left = _next_try(alarm, way)
            events.say("undelivered", f"alarm {alarm.id} not delivered ({left}): {problem}", id=alarm.id, by=way)


def _next_try(alarm: Alarm, way: str) -> str:
    if way not in alarm.pending:
        return "given up after a week of tries"
    return f"next try from {datetime.fromtimestamp(alarm.failed[way].next, UTC):%H:%M:%S} UTC on"


def sentence(row: dict[str, Any], threshold: float) -> str:
    """An exploit type's estimate in words."""
    rate = "rate unknown"
    if row["rate"] is not None:
        low, high = row["lower95"] or 0.0, row["upper95"] or 1.0
        rate = f"rate {row['rate']:.2g} ({low:.2g} to {high:.2g}) at step {row['checkpoint']}"
    changes = [
        f"; {what} {change:+.1f} nats since the first checkpoint"
        for score, what in SCORES.items()
        if (change := row.get(f"{score}_change")) is not None
    ]
    ahead = f"above {100 * threshold:g}% by step {row['horizon']:.0f}: {row['p_exceed']:.0%}"
    return f"{row['exploit_type']}: {rate}; {ahead}{''.join(changes)}"


def tell_unseen(events: Events, outlook: Outlook, score: ScoreLimit | None) -> None:
    """Tell of types that cannot alarm, and of a horizon that training has passed."""
    unscored = [row["exploit_type"] for row in outlook.types if score and row.get(score.column) is None]
    if score is not None and unscored:
        events.say_once(
            "unseen",
            "",
            f"cannot alarm, since nothing of their {score.what} is scored ({score.keys}): "
            f"{', '.join(sorted(unscored))}",
        )
    wanted, got = outlook.horizon, {row["horizon"] for row in outlook.types}
    if wanted is not None and got and wanted not in got:
        events.say_once(
            "horizon", "", f"training has passed step {wanted:.0f}; the forecast reaches to step {max(got):.0f}"
        )
