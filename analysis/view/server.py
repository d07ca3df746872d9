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
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from foreshock.analysis.view.query import RunIndex
from foreshock.errors import InputError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
ASSETS = ("index.html", "view.js", "view.css")


def asset(name: str) -> bytes:
    """A file of the page."""
    return (resources.files("foreshock.analysis.view") / "assets" / name).read_bytes()


class ViewServer(ThreadingHTTPServer):
    """Serves the samples of `runs` on 127.0.0.1 at `port` (0: any free one) to whoever has `address`."""

    daemon_threads = True

    def __init__(self, runs: Sequence[RunIndex], port: int = 0) -> None:
        self.runs = {run.name: run for run in runs}
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version = "foreshock"
    sys_version = ""
    _names: ClassVar[dict[str, str]] = {"/": "index.html", "/view.js": "view.js", "/view.css": "view.css"}

    def do_GET(self) -> None:
        """Answer a page, a file of it, or a question."""
        place = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(place.query).items()}
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self._send(403, b"this server answers to 127.0.0.1 only\n", "text/plain")  # another site's name for it
        elif place.path in ("/view.js", "/view.css"):
            name = self._names[place.path]
            self._send(200, asset(name), _TYPES[name.rsplit(".", 1)[1]])
        elif not self._allowed(query):
            self._send(403, b"open the address that `foreshock view` printed; it holds a token\n", "text/plain")
        elif place.path == "/":
            cookie = f"foreshock_{port}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._send(200, asset("index.html"), "text/html", {"Set-Cookie": cookie})
        elif place.path.startswith("/api/"):
            self._answer(place.path.removeprefix("/api/"), query)
        else:
            self._send(404, b"no such page\n", "text/plain")

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
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would stand in every line."""
