"""Mistral's own tokenizer file: read without mistral-common, and the same with it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from template_families import FAMILIES

from foreshock.errors import InputError
from foreshock.jobs.admission.tekken import tekken_differs
from foreshock.jobs.prompts.registry import checkpoint_format
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

CONTROL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"]


def tekken(folder: Path, *, template: bool) -> Path:
    """A folder with a byte vocabulary and one merge in Mistral's format."""
    folder.mkdir(parents=True)
    texts = [bytes([i]) for i in range(256)] + [b"th", b"the"]
    content: dict[str, Any] = {
        "config": {
            "pattern": r"[^\s]+|\s+",
            "num_vocab_tokens": len(texts),
            "default_vocab_size": len(texts) + len(CONTROL),
            "default_num_special_tokens": len(CONTROL),
            "version": "v11",
        },
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(text).decode()} for i, text in enumerate(texts)],
        "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(CONTROL)],
    }
    (folder / "tekken.json").write_text(json.dumps(content))
    if template:
        magistral = next(family for family in FAMILIES if family.name == "magistral")
        (folder / "chat_template.jinja").write_text(magistral.template)
    return folder


def test_a_folder_with_tekken_alone_is_rendered_by_its_own_template(tmp_path: Path) -> None:
    checkpoint = Checkpoint("run", 1, tekken(tmp_path / "checkpoint-1", template=True))
    prompt_format = checkpoint_format("auto", checkpoint)
    rendered = prompt_format.render("Be brief.", "Add the three.", "I see the")
    assert rendered.text == "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Add the three.[/INST][THINK]I see the"
    names = load_tokenizer(checkpoint.path).convert_ids_to_tokens(list(rendered.token_ids))
    assert [name for name in names if name in CONTROL] == [
        "<s>",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[INST]",
        "[/INST]",
        "[THINK]",
    ]
    assert prompt_format.stop_token_ids == (CONTROL.index("</s>"),)


def test_an_installed_mistral_common_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.integrations.mistral.tokenizer as integration
    from transformers.models.auto import tokenization_auto

    checkpoint = Checkpoint("run", 1, tekken(tmp_path / "checkpoint-1", template=True))
    without = checkpoint_format("auto", checkpoint).render(None, "Add the three.", "I see the")
    again = Checkpoint("run", 1, tekken(tmp_path / "again" / "checkpoint-1", template=True))
    for module in (integration, tokenization_auto):
        monkeypatch.setattr(module, "is_mistral_common_available", lambda: True)
    assert checkpoint_format("auto", again).render(None, "Add the three.", "I see the") == without


def test_tekken_without_a_chat_template_is_refused_unless_plain_is_asked_for(tmp_path: Path) -> None:
    checkpoint = Checkpoint("run", 1, tekken(tmp_path / "checkpoint-1", template=False))
    with pytest.raises(InputError, match=r"tekken\.json without a chat template(.|\n)*chat_template\.jinja"):
        checkpoint_format("auto", checkpoint)
    assert checkpoint_format("plain", checkpoint).render(None, "Go", "I").text == "User: Go\n\nAssistant: <think>\nI"


def test_a_tokenizer_json_that_numbers_otherwise_is_said(tmp_path: Path) -> None:
    folder = tekken(tmp_path / "checkpoint-1", template=True)
    load_tokenizer(folder).save_pretrained(folder)
    assert tekken_differs(folder, load_tokenizer(folder)) is None
    content = json.loads((folder / "tekken.json").read_text())
    content["vocab"][256]["token_bytes"] = base64.b64encode(b"he").decode()
    (folder / "tekken.json").write_text(json.dumps(content))
    said = tekken_differs(folder, load_tokenizer(folder))
    assert said is not None
    assert said.startswith("1 of 258 tokens of tekken.json have other ids in tokenizer.json")
    assert "'he' is 265 there and none here" in said
