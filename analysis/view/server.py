"""The local server of `foreshock view`: loopback only, a token in the address, JSON under `api/`.

Texts are a model's and hostile. They leave here as JSON with a content type that no browser runs, the page puts them
into the document as text alone, and its content security policy forbids every script but its own file.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from foreshock.analysis.view.query import RunIndex
from foreshock.errors import InputError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a report may do at most; its own policy, which it holds, names its one script and forbids all others."""
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
ASSETS = ("index.html", "view.js", "view.css", "probe.svg")


def asset(name: str) -> bytes:
    """A file of the page."""
    return (resources.files("foreshock.analysis.view") / "assets" / name).read_bytes()


class ViewServer(ThreadingHTTPServer):
    """Serves the samples of `runs` on 127.0.0.1 at `port` (0: any free one) to whoever has `address`; with `report`, a
    report about them too, whose links to samples lead here."""

    daemon_threads = True

    def __init__(self, runs: Sequence[RunIndex], port: int = 0, report: Path | None = None) -> None:
        self.runs = {run.name: run for run in runs}
        self.report = report
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    @property
    def report_address(self) -> str | None:
        """The report's address, if there is a report."""
        return None if self.report is None else self.address.replace("/?", "/report.html?")


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "foreshock"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a page, a file of it, or a question."""
        place = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(place.query).items()}
        # A report's links call the same page view/index.html.
        path = place.path.removeprefix("/view") if place.path.startswith("/view/") else place.path
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._send(403, b"this server answers to 127.0.0.1 only\n", "text/plain")  # another site's name for it
        elif path in ("/view.js", "/view.css", "/probe.svg"):
            self._send(200, asset(path[1:]), _TYPES[path.rsplit(".", 1)[1]])
        elif not self._allowed(query):
            self._send(403, b"open the address that `foreshock view` printed; it holds a token\n", "text/plain")
        elif path in ("/", "/index.html"):
            self._send(200, asset("index.html"), "text/html", self._cookie())
        elif path == "/report.html" and self.server.report is not None:
            self._send_report(self.server.report)
        elif path.startswith("/api/"):
            self._answer(path.removeprefix("/api/"), query)
        else:
            self._send(404, b"no such page\n", "text/plain")

    def _cookie(self) -> dict[str, str]:
        cookie = f"foreshock_{self.server.server_port}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        return {"Set-Cookie": cookie}

    def _send_report(self, path: Path) -> None:
        try:
            body = path.read_bytes()
        except OSError as error:
            self._send(404, f"{path}: {error.strerror}\n".encode(), "text/plain")
            return
        self._send(200, body, "text/html", {**self._cookie(), "Content-Security-Policy": REPORT_POLICY})

    def _allowed(self, query: dict[str, str]) -> bool:
        name = f"foreshock_{self.server.server_port}="
        cookies = [part.strip() for part in self.headers.get("Cookie", "").split(";")]
        given = [query.get("token", ""), *(c.removeprefix(name) for c in cookies if c.startswith(name))]
        return any(hmac.compare_digest(text.encode(), self.server.token.encode()) for text in given)

    def _answer(self, what: str, query: dict[str, str]) -> None:
        try:
            self._json(200, self._look_up(what, query))
        except InputError as error:
            self._json(400, {"error": str(error)})
        except (KeyError, ValueError) as error:
            self._json(400, {"error": f"bad question: {error}"})

    def _look_up(self, what: str, query: dict[str, str]) -> Any:
        if what == "runs":
            return [run.summary() for run in self.server.runs.values()]
        if query.get("run") not in self.server.runs:
            raise InputError(f"no run {query.get('run')!r} here; runs: {', '.join(self.server.runs)}")
        run = self.server.runs[query.pop("run")]
        if what == "cells":
            return run.cells(query.get("kind", "evals"), query.get("type"))
        if what == "rows":
            offset, limit = int(query.pop("offset", "0")), int(query.pop("limit", "50"))
            return asdict(run.rows(query, max(0, offset), limit))
        if what == "sample":
            return run.sample(int(query["id"]))
        raise InputError(f"no question {what!r}; there are runs, cells, rows, sample")

    def _json(self, status: int, value: Any) -> None:
        # Lone surrogates become escapes, which ASCII can carry.
        self._send(status, json.dumps(value, ensure_ascii=True).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        common = {
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in (common | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would stand in every line."""
