"""A Hugging Face hub on a loopback port, with what the real client asks of one to fetch whole repositories."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c0ffee" + 34 * "0"
_INFO = re.compile(r"/api/(?P<repo>(?:datasets|models)/[^/]+/[^/]+)(?:/revision/[^/]+)?$")
_TREE = re.compile(r"/api/(?P<repo>(?:datasets|models)/[^/]+/[^/]+)/tree/[^/]+$")
_FILE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)$")


class HubServer:
    """Repositories by `datasets/ORG/NAME` or `models/ORG/NAME`, each a mapping of file name to contents."""

    def __init__(self, repositories: dict[str, Mapping[str, bytes]], address: str, served: list[str]) -> None:
        self.repositories, self.address, self.served = repositories, address, served


def entry(name: str, body: bytes) -> dict[str, Any]:
    """A file in a repository's listing."""
    return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}


@contextmanager
def hub_server(repositories: dict[str, Mapping[str, bytes]]) -> Iterator[HubServer]:
    """Serve until the block ends; `served` lists the files whose contents were sent."""
    served: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            body = self._body(self.path.partition("?")[0], with_body)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            if body is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body or b"")

        def _body(self, path: str, with_body: bool) -> bytes | None:
            info, tree, file = _INFO.match(path), _TREE.match(path), _FILE.match(path)
            if tree is not None and tree["repo"] in repositories:
                return json.dumps([entry(*file) for file in repositories[tree["repo"]].items()]).encode()
            if info is not None and info["repo"] in repositories:
                name = info["repo"].partition("/")[2]
                siblings = [{"rfilename": file} for file in repositories[info["repo"]]]
                return json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}).encode()
            if file is None:
                return None
            repo = file["repo"] if file["repo"].startswith("datasets/") else f"models/{file['repo']}"
            body = repositories.get(repo, {}).get(file["file"])
            if body is not None and with_body:
                served.append(f"{repo}/{file['file']}")
            return body

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield HubServer(repositories, f"http://127.0.0.1:{server.server_port}", served)
    finally:
        server.shutdown()
        server.server_close()
