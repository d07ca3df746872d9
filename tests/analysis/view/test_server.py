"""The server answers only who has the token, on loopback, under its own name, and sends nothing that a browser runs."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from foreshock.analysis.view.export import export
from foreshock.analysis.view.index import index_run
from foreshock.analysis.view.query import RunIndex
from foreshock.analysis.view.server import ViewServer
from foreshock.errors import InputError


@pytest.fixture
def server(hostile_run: Path) -> Iterator[ViewServer]:
    served = ViewServer([RunIndex(hostile_run.name, index_run(hostile_run))])
    thread = threading.Thread(target=served.serve_forever, args=(0.02,))
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def ask(server: ViewServer, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def cookie(server: ViewServer) -> str:
    answer, _ = ask(server, f"/?token={server.token}")
    assert answer.status == 200
    return str(answer.headers["Set-Cookie"]).split(";")[0]


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/api/runs", "/api/runs?token=", "/report.html"])
def test_without_the_token_nothing_is_told(server: ViewServer, path: str) -> None:
    answer, body = ask(server, path)
    assert answer.status == 403
    assert b"token" in body


def test_another_name_for_the_server_is_refused(server: ViewServer) -> None:
    answer, _ = ask(server, f"/?token={server.token}", Host="evil.example")
    assert answer.status == 403


def test_a_cookie_serves_what_follows(server: ViewServer, hostile_run: Path) -> None:
    answer, body = ask(server, "/api/runs", Cookie=cookie(server))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert json.loads(body)[0]["run"] == hostile_run.name
    assert body.isascii()


def test_a_sample_comes_whole(server: ViewServer, hostile_run: Path) -> None:
    query = urlencode({"run": hostile_run.name, "limit": 1, "token": server.token})
    row = json.loads(ask(server, f"/api/rows?{query.replace('&token', '&checkpoint=4&token')}")[1])
    assert "error" in row  # a token is no filter: it comes as a cookie
    rows = json.loads(ask(server, f"/api/rows?{urlencode({'run': hostile_run.name})}", Cookie=cookie(server))[1])
    assert rows["total"] == 16
    query = urlencode({"run": hostile_run.name, "id": rows["rows"][0]["id"]})
    sample = json.loads(ask(server, f"/api/sample?{query}", Cookie=cookie(server))[1])
    assert "\ud800" in sample["row"]["response"]


@pytest.mark.parametrize(
    "question", ["rows?run=absent", "rows?run=RUN&level=x", "sample?run=RUN&id=9999", "sample?run=RUN", "other?run=RUN"]
)
def test_bad_questions_get_a_message(server: ViewServer, hostile_run: Path, question: str) -> None:
    answer, body = ask(server, f"/api/{question.replace('RUN', quote(hostile_run.name))}", Cookie=cookie(server))
    assert answer.status == 400
    assert json.loads(body)["error"]


def parse_data(path: Path) -> Any:
    text = path.read_bytes().decode("ascii")
    assert text.startswith("foreshockData(")
    return json.loads(f"[{text.removeprefix('foreshockData(').rstrip().removesuffix(');')}]")[1]


def test_an_export_holds_every_sample_as_plain_ascii(hostile_run: Path, tmp_path: Path) -> None:
    index = RunIndex(hostile_run.name, index_run(hostile_run))
    folder = tmp_path / "site"
    assert export([index], folder) == 16
    (run,) = parse_data(folder / "data" / "runs.js")
    total = 0
    for cell in run["cells"]["evals"]:
        rows = parse_data(folder / "data" / f"{cell['data']}.js")
        samples = parse_data(folder / "data" / f"{cell['data']}-0.js")
        assert [row["task"] for row in rows] == [sample["task_id"] for sample in samples]
        total += len(samples)
    assert total == 16
    page = (folder / "index.html").read_text()
    assert 'src="data/runs.js"' in page
    with pytest.raises(InputError, match="not empty"):
        export([index], folder)


def test_a_report_is_served_with_the_viewer_where_its_links_look_for_it(server: ViewServer, tmp_path: Path) -> None:
    own = cookie(server)
    assert ask(server, "/report.html", Cookie=own)[0].status == 404  # there is none
    server.report = tmp_path / "report.html"
    server.report.write_text("<title>a report</title>")
    assert server.report_address is not None
    answer, body = ask(server, server.report_address.partition(str(server.server_port))[2])
    assert (answer.status, body) == (200, b"<title>a report</title>")
    for path in ("/view/index.html", "/view/view.js", "/view/view.css", "/view/probe.svg", "/view/api/runs"):
        assert ask(server, path, Cookie=own)[0].status == 200
    assert ask(server, "/view/../report.html", Cookie=own)[0].status == 404
