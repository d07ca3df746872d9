"""HTTP to a model server: bounded waiting, retries with backoff, errors sorted by what can be done about them.

An answer counts only when it is whole. A body that breaks off, is not a JSON object or does not hold what was asked for
is a fault like a refused connection, and the request is sent again. httpx2 does the HTTP: it comes with transformers
(through huggingface_hub), starts in 0.1 s of CPU time, and leaves retries to us, which the openai package does not
(its own retries would hide server restarts, after which the model must be looked at again).
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from foreshock.errors import ForeshockError

T = TypeVar("T")

_RETRIED = frozenset({408, 409, 425, 429})
_LONGEST_PAUSE_S = 30.0
_LONGEST_RETRY_AFTER_S = 600.0
REMOVED = "<removed>"


class BadAnswerError(Exception):
    """An answer that is not what the protocol promises; the request may be sent again."""


class RefusedError(Exception):
    """The server understood the request and will not do it; sending it again would not help."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class UnreachableError(Exception):
    """No whole answer after every retry."""


class AccessError(ForeshockError):
    """The server wants another key; no request will do better."""


class WrongModelError(ForeshockError):
    """The server does not serve the model that the work was planned for."""


@dataclass
class Outage:
    """Whether a server is given up for now: one request used up its retries and nothing else got through."""

    answered: float = 0.0
    reason: str | None = None


@dataclass
class EndpointClient:
    """Requests to one base URL; made and used within one event loop.

    timeout_s: longest wait for one answer. retries: times a request is sent again. backoff_s: first pause; it doubles,
    up to 30 s, times a random factor between 0.5 and 1.5. `on_fault` hears of every answer that failed.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    concurrency: int
    timeout_s: float
    retries: int
    backoff_s: float
    on_fault: Callable[[], None] = lambda: None
    outage: Outage = field(default_factory=Outage)
    requests: int = 0
    retried: int = 0

    def __post_init__(self) -> None:
        url = httpx2.URL(self.base_url)
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        limits = httpx2.Limits(max_connections=self.concurrency + 4, max_keepalive_connections=self.concurrency + 4)
        # A node that vanishes sends no reset; probes find out in about a minute, long before `timeout_s`.
        probes = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        probes += [(socket.IPPROTO_TCP, getattr(socket, n), v) for n, v in _PROBES.items() if hasattr(socket, n)]
        transport = None if _proxied(url) else httpx2.AsyncHTTPTransport(limits=limits, socket_options=probes)
        self._client = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx2.Timeout(self.timeout_s, connect=min(30.0, self.timeout_s), pool=None),
            limits=limits,
            transport=transport,
        )

    async def close(self) -> None:
        """Drop all connections; a server that notices stops generating for them."""
        await self._client.aclose()

    async def get(self, path: str, read: Callable[[dict[str, Any]], T], retries: int | None = None) -> T:
        """GET a JSON object; `read` takes it apart and raises BadAnswerError if it is not what it should be."""
        return await self._send("GET", path, None, read, retries)

    async def post(
        self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], T], retries: int | None = None
    ) -> T:
        """POST `body`; otherwise as `get`.

        Raises RefusedError, UnreachableError after all retries, AccessError when the server wants another key.
        """
        return await self._send("POST", path, body, read, retries)

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | None, read: Callable[[dict[str, Any]], T], n: int | None
    ) -> T:
        retries = self.retries if n is None else n
        if self.outage.reason is not None:
            raise UnreachableError(self.outage.reason)
        began = time.monotonic()
        for attempt in range(retries + 1):
            pause: float | None = None
            self.requests += 1
            try:
                async with asyncio.timeout(self.timeout_s + 5):  # an answer that trickles resets the read timeout
                    response = await self._client.request(method, path.lstrip("/"), json=body)
                pause = _retry_after(response)
                answer = read(self._object(response))
            except (httpx2.TransportError, httpx2.DecodingError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            except TimeoutError:
                problem = f"no whole answer in {self.timeout_s:g} s"
            except BadAnswerError as error:
                problem = str(error)
            else:
                self.outage.answered = time.monotonic()
                self.outage.reason = None
                return answer
            self.on_fault()
            if self.outage.reason is not None:
                raise UnreachableError(self.outage.reason)
            if attempt < retries:
                self.retried += 1
                wait = min(self.backoff_s * 2**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
                await asyncio.sleep(max(wait, min(pause or 0.0, _LONGEST_RETRY_AFTER_S)))
        text = self.scrub(f"{self.base_url}: no answer after {retries + 1} tries, last: {problem}")
        if self.outage.answered < began and n is None:
            self.outage.reason = text
        raise UnreachableError(text)

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        """The JSON object of a successful response."""
        status = response.status_code
        if status in (401, 403):
            refused = "the API key" if self.api_key else "a request without an API key"
            raise AccessError(
                f"{self.base_url}: the server refused {refused} (HTTP {status})\n"
                "  -> export the key in the environment variable that engine.options.api_key_env names"
            )
        if status >= 500 or status in _RETRIED:
            raise BadAnswerError(f"HTTP {status}: {self._message(response)}")
        if status >= 300:
            raise RefusedError(status, self._message(response))
        try:
            found = response.json()
        except ValueError:
            raise BadAnswerError(f"HTTP {status} with a body that is not valid JSON: {self._start(response)}") from None
        if not isinstance(found, dict):
            raise BadAnswerError(f"HTTP {status} with a {type(found).__name__} where an object belongs")
        if found.get("error") and "choices" not in found and "data" not in found:
            raise BadAnswerError(f"HTTP {status} with an error in it: {self.scrub(str(found['error']))[:300]}")
        return found

    def _message(self, response: httpx2.Response) -> str:
        """What the server said, without the key."""
        try:
            body = response.json()
            said = body.get("error", body) if isinstance(body, dict) else body
            text = said.get("message", said) if isinstance(said, dict) else said
            return self.scrub(str(text))[:300]
        except ValueError:
            return self._start(response) or response.reason_phrase

    def _start(self, response: httpx2.Response) -> str:
        return self.scrub(response.text[:120].strip())

    def scrub(self, text: str) -> str:
        """The text without the API key, which some servers repeat in their errors."""
        return text.replace(self.api_key, REMOVED) if self.api_key else text


_PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


def _proxied(url: httpx2.URL) -> bool:
    """Whether the environment names a proxy for this address; a proxy cannot reach the loopback interface."""
    if url.host in ("localhost", "127.0.0.1", "::1"):
        return False
    proxies = urllib.request.getproxies_environment()
    return bool(proxies.keys() & {url.scheme, "all"})


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds that the server asks to wait, from a number or a date; None if it does not ask."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
