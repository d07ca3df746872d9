"""A real HTTP server on the loopback interface that speaks the OpenAI protocol in vLLM's way, and can misbehave.

It serves any engine's continuations, so that what comes over HTTP can be held against what the engine gives in process.
`faults` decides for each request, by path and count, whether it is answered or broken, and how.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

import numpy as np

from foreshock.jobs.engines.base import FinishReason, GenerationRequest, GenerationResult, ScoreRequest
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.engines.stopping import find_stop
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.prompts.settings import DEFAULT
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint


class Backend(Protocol):
    """What is served."""

    def generate(self, request: GenerationRequest) -> GenerationResult: ...

    def logprobs(self, ids: Sequence[int]) -> list[list[float]]:
        """log P(next token) over the whole vocabulary, after each position but the last."""


class FakeBackend:
    """The fake engine. Its scores are those of the actual tokens; the rest of the mass is spread by the checkpoint."""

    def __init__(self, checkpoint: Checkpoint, vocab_size: int = 420) -> None:
        self.engine = FakeEngine()
        self.engine.load(checkpoint)
        self.step = checkpoint.step or 0
        self.vocab_size = vocab_size

    def generate(self, request: GenerationRequest) -> GenerationResult:
        return next(self.engine.generate([request]))

    def logprobs(self, ids: Sequence[int]) -> list[list[float]]:
        if len(ids) < 2:
            return []
        (scores,) = self.engine.score([ScoreRequest(0, tuple(ids), 1)], 1.0)
        found = []
        spread = np.random.default_rng(self.step).normal(0.0, 3.0, self.vocab_size)
        for token, value in zip(ids[1:], scores.logprobs, strict=True):
            value = min(value, -1e-3)
            rest = np.exp(np.delete(spread, token))
            row = list(np.log(rest / rest.sum() * (1 - math.exp(value))))
            row.insert(token, value)
            found.append([float(v) for v in row])
        return found


class ModelBackend:
    """A real model through the transformers engine; distributions from plain forward passes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoModelForCausalLM

        self.engine = TransformersEngine(device="cpu")
        self.engine.load(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype="float32").eval()
        self.lock = threading.Lock()

    def generate(self, request: GenerationRequest) -> GenerationResult:
        with self.lock:
            return next(self.engine.generate([request]))

    def logprobs(self, ids: Sequence[int]) -> list[list[float]]:
        import torch

        with self.lock, torch.no_grad():
            found: list[list[float]] = self.model(torch.tensor([list(ids)])).logits[0].double().log_softmax(-1).tolist()
        return found[:-1]


FAULTS = (
    "429",
    "500",
    "503",
    "hang",
    "garbage",
    "half_closed",
    "cut_json",
    "drop",
    "error_200",
    "no_finish",
    "no_choice",
)

Faults = Callable[[str, int], str | None]
"""(path, how many requests that path had before) -> a fault's name, or None to answer."""


@dataclass
class Server:
    """One served model. `served` and `backend` may be exchanged while it runs."""

    checkpoint: Checkpoint
    backend: Backend
    served: str = "model"
    root: str | None = None
    key: str | None = None
    max_model_len: int | None = 4096
    wide: bool = True
    prompt_logprobs: bool = True
    echo: bool = True
    tells_ids: bool = True
    ids_by_logprobs: bool = False  # llama.cpp's way: ids beside log-probabilities, its slots' context in `meta`
    partial_characters: bool = False  # and those that spell part of a character left out
    takes_texts_alone: bool = False  # transformers' server
    completions: bool = True
    heeds_stop_ids: bool = True
    biases: bool = False
    suppresses_eos: bool = False  # llama.cpp's ignore_eos: the end of a turn is never drawn
    repeats_message: bool = False  # llama.cpp's chat: the message that is continued stands before its continuation
    score_error: float = 0.0  # nats by which a prompt's log-probabilities are wrong
    most_logprobs: int | None = None
    not_finite: bool = False
    faults: Faults = lambda path, n: None
    retry_after: str = "0.05"
    delay_s: Callable[[dict[str, Any]], float] = lambda body: 0.0
    answers_as: str | None = None
    changes_prompt: Callable[[list[int]], list[int]] = lambda ids: ids
    counts: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _http: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int) -> None:
        handler = type("Bound", (_Handler,), {"server_state": self})
        self._http = _HTTP(("127.0.0.1", port), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Go away as a killed process does: no more connections, open ones cut."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
            http.cut()

    @property
    def port(self) -> int:
        assert self._http is not None
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class _HTTP(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: list[Any] = []

    def get_request(self) -> Any:
        connection = super().get_request()
        self._open.append(connection[0])
        return connection

    def cut(self) -> None:
        import socket

        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        state, path = self.server_state, self.path.removeprefix("/v1/")
        with state._lock:
            n = state.counts[path]
            state.counts[path] += 1
            if body:
                state.bodies.append(body)
            state.in_flight += 1
            state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            fault = state.faults(path, n)
            if fault is None:
                self._answer(path, body)
            else:
                self._break(fault, path, body)
        finally:
            with state._lock:
                state.in_flight -= 1

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None, cut: int = 0) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])
        if cut:
            self.close_connection = True

    def _break(self, fault: str, path: str, body: dict[str, Any]) -> None:
        state = self.server_state
        if fault in ("429", "500", "503"):
            headers = {"Retry-After": state.retry_after} if fault == "429" else {}
            self._send(int(fault), {"error": {"message": f"fault {fault}; your key is {state.key}"}}, headers)
        elif fault == "hang":
            time.sleep(1.0)
            self.close_connection = True
        elif fault == "garbage":
            self._send(200, b"<html>the proxy is unwell</html>")
        elif fault == "half_closed":
            self._send(200, _document(state, path, body)[1], cut=20)
        elif fault == "cut_json":
            self._send(200, json.dumps(_document(state, path, body)[1]).encode()[:-20])
        elif fault in ("drop", "die"):
            self.close_connection = True
            if fault == "die":
                state.stop()
        elif fault == "error_200":
            self._send(200, {"error": {"message": "engine dead"}})
        elif fault == "no_finish":
            document = _document(state, path, body)[1]
            for choice in document.get("choices", []):
                choice["finish_reason"] = None
            self._send(200, document)
        elif fault == "no_choice":
            self._send(200, {"object": "text_completion", "model": state.served, "choices": []})
        else:
            raise AssertionError(fault)

    def _answer(self, path: str, body: dict[str, Any]) -> None:
        state = self.server_state
        time.sleep(state.delay_s(body))
        if state.key is not None and self.headers.get("Authorization") != f"Bearer {state.key}":
            self._send(401, {"error": {"message": f"bad key {self.headers.get('Authorization')}"}})
            return
        self._send(*_document(state, path, body))


def _document(state: Server, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and document of a right answer."""
    if path == "models":
        card: dict[str, Any] = {"id": state.served, "object": "model"}
        if state.ids_by_logprobs:
            card["meta"] = {"n_ctx": state.max_model_len, "n_ctx_train": 10**6}
        else:
            card |= {"root": state.root, "max_model_len": state.max_model_len}
        return 200, {"object": "list", "data": [card]}
    if path not in ("completions", "chat/completions") or (path == "completions" and not state.completions):
        return 404, {"detail": "Not Found"}
    if body["model"] != state.served:
        return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
    if state.takes_texts_alone and not isinstance(body.get("prompt"), str):
        return 400, {"detail": "prompt must be a string."}
    known = {"model", "prompt", "messages", "max_tokens", "temperature", "top_p", "seed", "n", "stream", "stop"}
    unknown = body.keys() - known - {"logprobs", "top_logprobs", "echo"}
    if not state.wide and unknown:
        return 400, {"error": {"message": f"Unrecognized request argument supplied: {min(unknown)}"}}
    ids = state.changes_prompt(list(body["prompt"]) if path == "completions" else _render(state, body))
    asked = body.get("prompt_logprobs")
    if state.most_logprobs is not None and asked is not None and not 0 <= asked <= state.most_logprobs:
        return 400, {"error": {"message": f"Requested prompt logprobs of {asked}, at most {state.most_logprobs}"}}
    room = None if state.max_model_len is None else state.max_model_len - len(ids)
    if room is not None and body["max_tokens"] > room:
        return 400, {"error": {"message": f"max_tokens {body['max_tokens']} is too large, {room} fit"}}
    return 200, _completion(state, path, body, ids)


def _render(state: Server, body: dict[str, Any]) -> list[int]:
    """As vLLM does: the template over the messages, the last one continued."""
    tokenizer = load_tokenizer(state.checkpoint.path)
    kwargs = body.get("chat_template_kwargs", {})
    assert kwargs in ({}, DEFAULT.arguments())
    text = tokenizer.apply_chat_template(
        body["messages"],
        tokenize=False,
        add_generation_prompt=body.get("add_generation_prompt", True),
        continue_final_message=body.get("continue_final_message", False),
        **kwargs,
    )
    return list(tokenizer.encode(text, add_special_tokens=False))


def _completion(state: Server, path: str, body: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    tokenizer = load_tokenizer(state.checkpoint.path)
    control = {t: tokenizer.convert_tokens_to_ids(t) for t in body.get("stop", []) if t in tokenizer.all_special_tokens}
    stops = (body.get("stop_token_ids") if state.heeds_stop_ids else None) or list(control.values())
    if state.suppresses_eos and not body.get("ignore_eos"):
        stops = [*stops, tokenizer.eos_token_id]
    strings = tuple(t for t in body.get("stop", []) if t not in control)
    result = state.backend.generate(
        GenerationRequest(
            0,
            tuple(ids),
            seed=body.get("seed") or 0,
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            stop_token_ids=tuple(stops),
            stop=strings,
        )
    )
    assert result.error is None, result.error
    result = _biased(state, body, result, stops)
    skip = body.get("skip_special_tokens", True) or state.ids_by_logprobs
    text = tokenizer.decode(list(result.token_ids), skip_special_tokens=skip)
    place = find_stop(text, strings)
    text = text[:place]  # all of it where there is none
    stopped = result.finish_reason is FinishReason.STOP and place is None
    tokens = [*result.token_ids, *(stops[:1] if stopped else [])]
    choice: dict[str, Any] = {"index": 0, "finish_reason": result.finish_reason.value, "logprobs": None}
    choice["stop_reason"] = stops[0] if stopped and stops else None
    document: dict[str, Any] = {"object": "x", "model": state.answers_as or state.served, "choices": [choice]}
    document["usage"] = {"prompt_tokens": len(ids), "completion_tokens": len(tokens)}
    chat = path == "chat/completions"
    if chat:
        begun = body["messages"][-1]["content"] if state.repeats_message else ""
        choice["message"] = {"role": "assistant", "content": begun + text}
    else:
        choice["text"] = text
    if state.tells_ids and body.get("return_token_ids"):
        choice["token_ids"] = tokens
        (document if chat else choice)["prompt_token_ids"] = ids
    if body.get("prompt_logprobs") is not None and state.prompt_logprobs:
        (document if chat else choice)["prompt_logprobs"] = _prompt_logprobs(state, ids, body["prompt_logprobs"])
    if body.get("logprobs"):
        _add_logprobs(state, body, ids, tokens, choice, chat)
    return document


def _biased(state: Server, body: dict[str, Any], result: GenerationResult, stops: list[int]) -> GenerationResult:
    """What a server that knows biases draws under one: that token, over and over, unless it ends the continuation."""
    if not state.biases or not body.get("logit_bias"):
        return result
    token = int(next(iter(body["logit_bias"])))
    ends = load_tokenizer(state.checkpoint.path).all_special_ids  # llama.cpp takes <|endoftext|> and its like for ends
    if token in ends and state.suppresses_eos and body.get("ignore_eos"):
        return result
    if token in stops:
        return GenerationResult(0, (), "", FinishReason.STOP)
    return GenerationResult(0, (token,) * body["max_tokens"], "", FinishReason.LENGTH)


def _prompt_logprobs(state: Server, ids: list[int], top_k: int) -> list[dict[str, Any] | None]:
    """The likeliest `top_k` (-1: all) and the token itself, as vLLM lists them."""
    found: list[dict[str, Any] | None] = [None]
    for token, row in zip(ids[1:], state.backend.logprobs(ids), strict=True):
        order = sorted(range(len(row)), key=lambda i: -row[i])
        kept = {token, *(order if top_k == -1 else order[:top_k])}
        found.append(
            {
                str(i): {"logprob": row[i] - state.score_error, "rank": order.index(i) + 1, "decoded_token": "x"}
                for i in kept
            }
        )
    return found


def _add_logprobs(
    state: Server, body: dict[str, Any], ids: list[int], tokens: list[int], choice: dict[str, Any], chat: bool
) -> None:
    tokenizer = load_tokenizer(state.checkpoint.path)
    rows = state.backend.logprobs([*ids, *tokens, 0])
    first = rows[len(ids) - 1]
    best = sorted(range(len(first)), key=lambda i: -first[i])[:5]
    if state.ids_by_logprobs:
        top = [{"id": i, "token": tokenizer.decode([i]), "logprob": first[i]} for i in best]
        told = tokens[:-1] if state.partial_characters and len(tokens) > 1 else tokens
        at = len(ids) - 1
        content = [{"id": t, "token": "x", "logprob": rows[at + i][t], "top_logprobs": top} for i, t in enumerate(told)]
        choice["logprobs"] = {"content": content}
        return
    if chat:
        top = [{"token": tokenizer.decode([i]), "logprob": first[i]} for i in best]
        choice["logprobs"] = {"content": [top[0] | {"top_logprobs": top}]}
        return
    if body.get("echo") and state.echo:
        everything = [*ids, *tokens]
        values = [None, *(rows[i][token] for i, token in enumerate(everything[1:]))]
        choice["logprobs"] = {"tokens": [str(i) for i in everything], "token_logprobs": values}
    elif not body.get("echo"):
        drawn = [rows[len(ids) - 1 + i][token] for i, token in enumerate(tokens)]
        choice["logprobs"] = {
            "tokens": ["x"],
            "token_logprobs": [math.nan if state.not_finite and len(tokens) > 1 else value for value in drawn],
            "top_logprobs": [{tokenizer.decode([i]): first[i] for i in best}],
        }
