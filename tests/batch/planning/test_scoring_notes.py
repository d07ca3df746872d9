"""A plan over a server says whether prefills can be scored at the run's temperature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from endpoint_server import FakeBackend, Server

from foreshock.batch.config import RunConfig
from foreshock.batch.planning.make_plan import make_plan
from foreshock.batch.planning.summary import summarise
from foreshock.batch.site import resolve_site
from foreshock.jobs.records.spec import Checkpoint


def test_what_a_server_cannot_score_is_said_at_plan_time(make_config: Callable[..., RunConfig], sft_run: Path) -> None:
    checkpoint = Checkpoint("sft", 1, sft_run / "checkpoints" / "checkpoint-1")

    def notes(server: Server, temperature: float) -> str:
        options = {"base_url": server.url, "model": "model", "backoff": 0.01}
        config = make_config(
            checkpoints={"dir": str(checkpoint.path)},
            engine={"name": "openai", "options": options, "batch_size": None, "threads": None},
            sampling={"temperature": temperature},
        )
        return " ".join(summarise(make_plan(config), resolve_site(config))["notes"])

    with Server(checkpoint, FakeBackend(checkpoint), prompt_logprobs=False) as server:
        assert "gives log-probabilities at temperature 1 only" in notes(server, 0.7)
        assert "may not be scored" not in notes(server, 1.0)
    with Server(checkpoint, FakeBackend(checkpoint)) as server:
        assert "may not be scored" not in notes(server, 0.7)
    assert "the server could not be asked now" in notes_of_gone(notes, server)


def notes_of_gone(notes: Callable[[Server, float], str], server: Server) -> str:
    """The server's address, with nobody behind it any more."""
    server.start(0)
    port = server.port
    server.stop()
    gone = type("Gone", (), {"url": f"http://127.0.0.1:{port}/v1"})()
    return notes(gone, 0.7)
