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
from urllib.parse import unquote

COMMIT = "c0ffee" + 34 * "0"
_INFO = re.compile(r"/api/(?P<repo>(?:datasets|models)/[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?$")
_TREE = re.compile(r"/api/(?P<repo>(?:datasets|models)/[^/]+/[^/]+)/tree/(?P<revision>[^/]+)$")
_REFS = re.compile(r"/api/(?P<repo>(?:datasets|models)/[^/]+/[^/]+)/refs$")
_FILE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")


class HubServer:
    """Repositories by `datasets/ORG/NAME` or `models/ORG/NAME`, each a mapping of file name to contents; with `@BRANCH`
    after the name, another branch's."""

    def __init__(self, repositories: dict[str, Mapping[str, bytes]], address: str, served: list[str]) -> None:
        self.repositories, self.address, self.served = repositories, address, served


def entry(name: str, body: bytes) -> dict[str, Any]:
    """A file in a repository's listing."""
    return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}


@contextmanager
def hub_server(repositories: dict[str, Mapping[str, bytes]]) -> Iterator[HubServer]:
    """Serve until the block ends; `served` lists the files whose contents were sent."""
    served: list[str] = []

    def commit(key: str) -> str:
        return hashlib.sha1(key.encode()).hexdigest() if "@" in key else COMMIT

    def at(repo: str, revision: str | None) -> str | None:
        """The key of a repository's branch or commit; any other revision is the main branch's."""
        own = [key for key in repositories if key.partition("@")[0] == repo]
        named = [key for key in own if revision in (key.partition("@")[2], commit(key))]
        return next(iter(named), repo if repo in repositories else None)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            body, self.commit = None, COMMIT
            body = self._body(unquote(self.path.partition("?")[0]), with_body)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            if body is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            else:
                self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", self.commit)
            self.end_headers()
            if with_body:
                self.wfile.write(body or b"")

        def _body(self, path: str, with_body: bool) -> bytes | None:
            info, tree, refs, file = _INFO.match(path), _TREE.match(path), _REFS.match(path), _FILE.match(path)
            if refs is not None:
                own = [key for key in repositories if key.partition("@")[0] == refs["repo"]]
                branches = [(key.partition("@")[2] or "main", commit(key)) for key in own]
                found = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": at} for name, at in branches]
                return json.dumps({"branches": found, "tags": [], "converts": []}).encode() if own else None
            if tree is not None and (key := at(tree["repo"], tree["revision"])) is not None:
                return json.dumps([entry(*file) for file in repositories[key].items()]).encode()
            if info is not None and (key := at(info["repo"], info["revision"])) is not None:
                name = info["repo"].partition("/")[2]
                siblings = [{"rfilename": file} for file in repositories[key]]
                return json.dumps({"id": name, "modelId": name, "sha": commit(key), "siblings": siblings}).encode()
            if file is None:
                return None
            repo = file["repo"] if file["repo"].startswith("datasets/") else f"models/{file['repo']}"
            key = at(repo, file["revision"])
            body = repositories.get(key or "", {}).get(file["file"])
            self.commit = commit(key or repo)
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
