"""Chat mode: a conversation is continued as the very token ids of the run, or the row is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from connected_endpoint import connected
from endpoint_server import FakeBackend, Server
from engine_contract import by_id
from transformers import AutoTokenizer

from foreshock.errors import InputError
from foreshock.jobs.engines.base import (
    GenerationRequest,
    ScoreRequest,
)
from foreshock.jobs.engines.fake import FakeEngine
from foreshock.jobs.prompts.registry import select_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("tokenizer", "format_name"), [("think", "think"), ("think_closed", "think"), ("chat", "chat")]
)
def test_chat_mode_continues_the_very_token_ids_of_the_run(
    make_checkpoint: Callable[..., Checkpoint], tokenizer: str, format_name: str
) -> None:
    checkpoint = make_checkpoint(tokenizer=tokenizer, step=4)
    prompt_format = select_format(format_name, load_tokenizer(checkpoint.path))
    rendered = [prompt_format.render(s, "Add three.", p) for s in (None, "Be brief.") for p in ("", "I see the task")]
    requests = [
        GenerationRequest(
            i,
            r.token_ids,
            seed=i,
            max_tokens=9,
            stop_token_ids=prompt_format.stop_token_ids,
            conversation=r.conversation,
        )
        for i, r in enumerate(rendered)
    ]
    with FakeEngine() as local:
        local.load(checkpoint)
        expected = by_id(list(local.generate(requests)))
    with Server(checkpoint, FakeBackend(checkpoint), completions=False) as server:
        with pytest.raises(InputError, match="mode: chat"), connected(server) as engine:
            engine.load(checkpoint)
        with connected(server, mode="chat") as engine:
            engine.load(checkpoint)
            assert by_id(list(engine.generate(requests))) == expected
            scoring = [ScoreRequest(i, r.token_ids, r.prefill_start, r.conversation) for i, r in enumerate(rendered)]
            scores = list(engine.score([s for s in scoring if s.prefill_start < len(s.token_ids)], 1.0))
            assert all(s.error is None for s in scores)


def test_a_template_that_cannot_be_continued_refuses_the_row(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint(tokenizer="think_closed", step=4)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    always = tokenizer.chat_template.replace("{% if m.reasoning_content %}", "{% if m.role == 'assistant' %}")
    tokenizer.chat_template = always  # as Qwen3's: a think block, closed, before every answer
    tokenizer.save_pretrained(checkpoint.path)
    rendered = select_format("think", load_tokenizer(checkpoint.path)).render(None, "Go", "I")
    with Server(checkpoint, FakeBackend(checkpoint)) as server, connected(server, mode="chat") as engine:
        engine.load(checkpoint)
        asked = GenerationRequest(0, rendered.token_ids, 1, 5, conversation=rendered.conversation)
        (result,) = engine.generate([asked])
    assert "use engine.options.mode: completions" in (result.error or "")


def test_chat_mode_without_a_template_that_begins_a_message_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = Checkpoint("run", tiny.step, Path(shutil.copytree(tiny.path, tmp_path / tiny.path.name)))
    (point.path / "chat_template.jinja").unlink()
    told = pytest.raises(InputError, match="needs a chat template that begins an assistant's message")
    with Server(point, FakeBackend(point)) as server, connected(server, mode="chat") as engine, told:
        engine.load(point)
