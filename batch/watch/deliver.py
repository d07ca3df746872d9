"""Alarms on their way out: a file that stops training, a POST to a webhook, a shell command.

A delivery that fails never stops the watch, and one that may or may not have gone out is sent again with the same id;
a lost alarm costs more than a doubled one. Each way is tried by the clock, at pauses that double up to an hour, for a
week: receivers are down for a day, and polls may be seconds or hours apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

from foreshock.batch.watch.state import Alarm, Delivery, WatchState
from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.records.jsonl import read_json, write_json

_TIMEOUT_S = 10.0
_PAUSES_S = (1.0, 3.0)
"""Between the tries of one delivery; the watch's next polls try again."""
_COMMAND_TIMEOUT_S = 300.0
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 3600.0
_GIVE_UP_S = 7 * 86400.0
"""Between tries in all; the first one after it is the last."""
_LONGEST_GAP_S = 86400.0
"""What one pause between two tries counts at most: a clock that jumps by years has not waited for years."""


class DeliveryError(Exception):
    """Why an alarm did not arrive; never holds the webhook's path, which is often its password."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET without a body, whose answer says nothing of the alarm; it is refused."""

    def redirect_request(self, *given: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def check_webhook(url: str) -> None:
    """Raise InputError for anything but an http or https URL that can be posted to as it is."""
    valid = "valid: http://... or https://..."
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"--webhook: not a URL that can be posted to; {valid}")
    if any(not "!" <= letter <= "~" for letter in url):
        raise InputError(f"--webhook: a URL has no blanks and no letters beyond ASCII; percent-encode them; {valid}")
    if "@" in parts.netloc:
        raise InputError("--webhook: names and passwords before the host are not sent; use a secret in path or query")


def post(url: str, payload: dict[str, Any], pause: Callable[[float], None] = time.sleep) -> None:
    """POST `payload` as JSON. Raises DeliveryError when no try succeeded; 4xx other than 408 and 429 is final."""
    host = urlsplit(url).hostname
    body = json.dumps(payload).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "foreshock", "Idempotency-Key": str(payload["id"])}
    problem = ""
    for i in range(len(_PAUSES_S) + 1):
        if i:
            pause(_PAUSES_S[i - 1])
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"HTTP {error.code}"
            if 300 <= error.code < 400:
                problem += ", a redirect, which would drop the alarm's content; give the address that it leads to"
                break
            if 400 <= error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, ValueError) as error:  # refused, timed out, TLS, a half-closed stream
            problem = type(error).__name__ if str(url) in str(error) else str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - http.client raises its own kinds for garbage answers
            problem = type(error).__name__
    raise DeliveryError(f"webhook at {host}: {problem}")


def alarms_in(path: Path) -> list[dict[str, Any]]:
    """Alarms in a stop file; none where there is no file. Raises InputError for a file that no watch has written."""
    if not path.exists():
        return []
    try:
        content = read_json(path)
    except (OSError, InputError):
        content = None
    alarms = content.get("alarms") if isinstance(content, dict) and content.keys() == {"alarms"} else None
    if not isinstance(alarms, list) or not all(isinstance(one, dict) and "id" in one for one in alarms):
        raise InputError(
            "--stop-file: there is a file here that no watch has written, and it is not replaced",
            path=path,
            fix="name a file that is not there yet",
        )
    return alarms


def write_stop_file(path: Path, payload: dict[str, Any]) -> None:
    """Add the alarm to the file that training looks for. Raises DeliveryError when it cannot be written, or when there
    is another file."""
    try:
        alarms = [alarm for alarm in alarms_in(path) if alarm["id"] != payload["id"]]
        write_json(path, {"alarms": [*alarms, payload]})
    except (OSError, ForeshockError) as error:
        raise DeliveryError(f"--stop-file {path}: {error}") from None


def run_command(command: str, payload: dict[str, Any]) -> None:
    """Run a shell command with the alarm as JSON on its standard input and in FORESHOCK_ALARM_* variables.

    Raises DeliveryError when it fails or takes longer than five minutes.
    """
    environment = dict(os.environ) | {
        f"FORESHOCK_ALARM_{name.upper()}": str(value)
        for name, value in payload.items()
        if isinstance(value, str | int | float)
    }
    # files in place of pipes: what a command leaves running in the background may hold them open
    with TemporaryFile() as out, TemporaryFile() as err:
        try:
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                input=json.dumps(payload).encode(),
                stdout=out,
                stderr=err,
                env=environment,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeliveryError(f"--on-alarm command: {type(error).__name__}: {error}") from None
        if done.returncode != 0:
            said = " | ".join((_tail(err) or _tail(out)).splitlines()[-3:]) or "no output"
            raise DeliveryError(f"--on-alarm command ended with exit code {done.returncode}: {said}")


def _tail(file: IO[bytes]) -> str:
    """The end of what a command said, in whatever encoding."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
    return file.read().decode(errors="replace").strip()


def deliver_pending(
    state: WatchState,
    ways: Mapping[str, Callable[[dict[str, Any]], None]],
    clock: Callable[[], float] = time.time,
) -> Iterator[tuple[Alarm, str, str | None]]:
    """Try every delivery that one of `ways` owes and whose time has come; yields (alarm, way, None or what went wrong)
    after each, with `state` updated for the caller to make durable."""
    for alarm in state.alarms:
        for way in [way for way in alarm.pending if way in ways]:
            failed = alarm.failed.get(way)
            if failed is not None and 0 < failed.next - clock() <= _LONGEST_PAUSE_S:  # beyond: the clock was set back
                continue
            payload = {"id": alarm.id, "text": alarm.message, "raised": alarm.raised} | alarm.facts
            problem = None
            try:
                ways[way](payload)
                alarm.pending.remove(way)
                alarm.failed.pop(way, None)
            except DeliveryError as error:
                problem = str(error)
                _note_failure(alarm, way, clock())
            yield alarm, way, problem


def _note_failure(alarm: Alarm, way: str, now: float) -> None:
    before = alarm.failed.get(way) or Delivery(last=now)
    pause = min(_FIRST_PAUSE_S * 2.0 ** min(before.tries, 20), _LONGEST_PAUSE_S)
    waited = before.waited + min(max(0.0, now - before.last), _LONGEST_GAP_S)
    alarm.failed[way] = Delivery(before.tries + 1, now, waited, now + pause)
    if waited >= _GIVE_UP_S:
        alarm.pending.remove(way)
