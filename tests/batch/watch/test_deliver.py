"""Alarms reach a real web server and a real shell, and what goes wrong on the way is said without secrets."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foreshock.batch.watch.deliver import (
    DeliveryError,
    check_webhook,
    deliver_pending,
    post,
    run_command,
    write_stop_file,
)
from foreshock.batch.watch.options import WatchOptions, check_stop_file
from foreshock.batch.watch.state import Alarm, WatchState, state_file
from foreshock.batch.watch.telling import Events, deliver
from foreshock.errors import InputError
from foreshock.jobs.records.layout import RunLayout

PAYLOAD = {"id": "run/type", "text": "run: type will exceed", "p_exceed": 0.8, "types": ["not", "plain"]}


class Receiver:
    """A web server that answers with the given statuses in turn, the last one for ever; 0 hangs up, -1 is garbage."""

    def __init__(self, statuses: list[int]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.bodies.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                status = statuses[min(len(outer.bodies), len(statuses)) - 1]
                if status == -1:
                    self.wfile.write(b"garbage\r\n\r\n")
                elif status:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/SECRET"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Callable[[list[int]], Receiver]]:
    made: list[Receiver] = []

    def make(statuses: list[int]) -> Receiver:
        made.append(Receiver(statuses))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.mark.parametrize(
    ("statuses", "n_tries"), [([200], 1), ([500, 204], 2), ([429, 503, 200], 3), ([0, 200], 2), ([-1, 200], 2)]
)
def test_a_webhook_is_tried_until_it_answers(
    receiver: Callable[[list[int]], Receiver], statuses: list[int], n_tries: int
) -> None:
    there, pauses = receiver(statuses), list[float]()
    post(there.url, PAYLOAD, pauses.append)
    assert there.bodies == [PAYLOAD] * n_tries
    assert len(pauses) == n_tries - 1
    assert all(headers["Content-Type"] == "application/json" for headers in there.headers)
    assert {headers["Idempotency-Key"] for headers in there.headers} == {"run/type"}


@pytest.mark.parametrize(("status", "n_tries"), [(404, 1), (403, 1), (500, 3)])
def test_a_refusal_is_said_without_the_path(
    receiver: Callable[[list[int]], Receiver], status: int, n_tries: int
) -> None:
    there = receiver([status])
    with pytest.raises(DeliveryError, match=f"webhook at 127.0.0.1: HTTP {status}") as caught:
        post(there.url, PAYLOAD, lambda seconds: None)
    assert len(there.bodies) == n_tries
    assert "SECRET" not in str(caught.value)


def test_nobody_listening_is_an_error_without_the_path() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/SECRET"
    with pytest.raises(DeliveryError) as caught:
        post(url, PAYLOAD, lambda seconds: None)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x/y", "hooks.example.com/x", "file:///etc/passwd", "http://", "http://[::1", "http://x:99999/y"),
        *("http://me:word@x/y", "http://x/a\tb", "http://x/\u00e4"),
    ],
)
def test_only_web_addresses_are_posted_to(url: str) -> None:
    with pytest.raises(InputError, match="--webhook"):
        check_webhook(url)


def test_a_command_gets_the_alarm_on_stdin_and_in_variables(tmp_path: Path) -> None:
    run_command(f'cat > {tmp_path}/in; echo "$FORESHOCK_ALARM_P_EXCEED $FORESHOCK_ALARM_ID" > {tmp_path}/env', PAYLOAD)
    assert json.loads((tmp_path / "in").read_text()) == PAYLOAD
    assert (tmp_path / "env").read_text() == "0.8 run/type\n"


def test_a_failing_command_is_quoted() -> None:
    with pytest.raises(DeliveryError, match="exit code 7: no such pager"):
        run_command("echo no such pager >&2; exit 7", PAYLOAD)


def test_a_command_that_reads_nothing_is_fine() -> None:
    run_command("true", PAYLOAD | {"types": ["x" * 200_000]})


def test_a_command_may_say_any_bytes_and_leave_something_running() -> None:
    began = time.monotonic()
    run_command("sleep 20 & printf 'gr\\374n'", PAYLOAD)
    assert time.monotonic() - began < 15
    with pytest.raises(DeliveryError, match=r"exit code 7: gr.n"):
        run_command("printf 'gr\\374n'; exit 7", PAYLOAD)


def test_owed_deliveries_are_tried_by_the_clock_each_way_for_itself() -> None:
    """A receiver that is down for a day gets its alarm however often anybody looks; the other way is told once."""
    now, down = [0.0], [True]
    tries: list[float] = []
    got: list[dict[str, Any]] = []

    def webhook(payload: dict[str, Any]) -> None:
        tries.append(now[0])
        if down[0]:
            raise DeliveryError("down")
        got.append(payload)

    told: list[dict[str, Any]] = []
    state = WatchState("/x", alarms=[Alarm("a", "t", "now", "m", {}, ["webhook", "command"])])
    while now[0] < 2 * 86400:
        down[0] = now[0] < 86400
        list(deliver_pending(state, {"webhook": webhook, "command": told.append}, lambda: now[0]))
        now[0] += 30
    assert [payload["id"] for payload in told] == [payload["id"] for payload in got] == ["a"]
    assert state.alarms[0].pending == []
    gaps = [b - a for a, b in itertools.pairwise(tries)]
    assert gaps[:3] == [60, 120, 240]
    assert max(gaps) == 3600


def test_a_way_that_fails_for_a_week_is_given_up_and_restarts_keep_the_clock(tmp_path: Path) -> None:
    def fail(payload: dict[str, Any]) -> None:
        raise DeliveryError("down")

    layout, now = RunLayout(tmp_path), [1e9]
    WatchState("/x", alarms=[Alarm("a", "t", "now", "m", {}, ["webhook"])]).write(layout)
    while (state := WatchState.read(layout)).alarms[0].pending:
        list(deliver_pending(state, {"webhook": fail}, lambda: now[0]))
        state.write(layout)
        now[0] += 3600
    assert 7 * 86400 <= now[0] - 1e9 <= 7 * 86400 + 2 * 3600


def test_a_clock_that_jumps_neither_gives_up_nor_waits_for_years() -> None:
    def fail(payload: dict[str, Any]) -> None:
        raise DeliveryError("down")

    alarm = Alarm("a", "t", "now", "m", {}, ["webhook"])
    state = WatchState("/x", alarms=[alarm])
    tries = 0
    for now in (0.0, 1.8e9, 1.8e9 + 300, 1e9):  # no clock at first, then one, then one that was set back
        tries += len(list(deliver_pending(state, {"webhook": fail}, lambda now=now: now)))
    assert tries == 4
    assert alarm.pending == ["webhook"]


def test_the_stop_file_holds_all_alarms_once_and_one_that_cannot_be_written_is_owed(tmp_path: Path) -> None:
    file = tmp_path / "stop.json"
    for alarm in ("a", "b", "a"):
        write_stop_file(file, PAYLOAD | {"id": alarm})
    assert [alarm["id"] for alarm in json.loads(file.read_text())["alarms"]] == ["b", "a"]
    (tmp_path / "taken").write_text("")
    with pytest.raises(DeliveryError, match="--stop-file"):
        write_stop_file(tmp_path / "taken" / "stop.json", PAYLOAD)
    check_stop_file(file)


@pytest.mark.parametrize("content", ["", "lr: 1", '{"alarms": []', '{"alarms": [1]}', '{"alarms": [], "lr": 1}', "[]"])
def test_a_file_that_no_watch_has_written_is_never_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "stop.json"
    file.write_text(content)
    with pytest.raises(InputError, match="no watch has written"):
        check_stop_file(file)
    with pytest.raises(DeliveryError, match="no watch has written"):  # put there after the watch began
        write_stop_file(file, PAYLOAD)
    assert file.read_text() == content


def test_an_alarm_that_this_start_cannot_deliver_is_said_once(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    events, state = Events(said.append), WatchState("/x", alarms=[Alarm("a", "t", "now", "m", {}, ["webhook"])])
    for _ in range(2):
        deliver(state, RunLayout(tmp_path), WatchOptions(), events, lambda seconds: None)
    assert [event["message"] for event in said] == ["not delivered yet: a; give --webhook again"]


def test_a_redirect_is_a_failure_and_not_followed(receiver: Callable[[list[int]], Receiver]) -> None:
    there = receiver([302])
    with pytest.raises(DeliveryError, match="redirect"):
        post(there.url, PAYLOAD, lambda seconds: None)
    assert len(there.bodies) == 1


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    WatchState("/x", alarms=[Alarm("a", "t", "now", "m", {}, ["webhook"])]).write(layout)
    path = state_file(layout)
    data = json.loads(path.read_text())
    data["alarms"][0] = {key: value for key, value in data["alarms"][0].items() if key != "failed"} | {"tries": 4}
    path.write_text(json.dumps(data))
    assert WatchState.read(layout).alarms[0].pending == ["webhook"]
