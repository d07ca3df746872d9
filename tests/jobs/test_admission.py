"""Admission by files: what speaks against a checkpoint is found, with the true reason, before anything is loaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from foreshock.errors import InputError
from foreshock.jobs.admission.admit import Admission, admit
from foreshock.jobs.spec import Checkpoint

Make = Callable[..., Checkpoint]


def look(checkpoint: Checkpoint, engine: str = "transformers", **options: Any) -> Admission:
    return admit(checkpoint, engine, options)


def copy(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    shutil.copytree(checkpoint.path, folder / "checkpoint-1")
    return Checkpoint("run", 1, folder / "checkpoint-1")


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_sound_checkpoint_is_admitted_without_a_note(tiny: Checkpoint) -> None:
    found = look(tiny)
    assert {f.state for f in found.findings} == {"ok"}
    found.require()


@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "LlamaTokenizer"])
def test_a_class_that_does_not_read_as_tokenizer_json_is_refused(tiny: Checkpoint, tmp_path: Path, named: str) -> None:
    point = copy(tiny, tmp_path)
    edit(point.path / "tokenizer_config.json", tokenizer_class=named)
    with pytest.raises(InputError, match=r"tokenizer: the class .* tokenizer\.json as") as caught:
        look(point).require()
    assert '"tokenizer_class": "PreTrainedTokenizerFast"' in str(caught.value)


def test_an_adapter_is_looked_at_with_its_base(tiny: Checkpoint, make_adapter: Make, make_checkpoint: Make) -> None:
    look(make_adapter(tiny, 1)).require()
    tied = make_checkpoint(seed=4, tie_word_embeddings=True)
    for adapter, why in (
        (make_adapter(tiny, 2, init_lora_weights="pissa"), "changing the base's weights"),
        (make_adapter(tiny, 3, rank=4, rank_pattern={"q_proj": 8}), "its configuration says 8"),
        (make_adapter(tied, 4, modules=("embed_tokens",)), "its base ties output layer and embeddings"),
        (
            make_adapter(tiny, 5, modules=("q_proj",), base_model_name_or_path=str(make_checkpoint("gpt2").path)),
            "trained",
        ),
    ):
        with pytest.raises(InputError, match=why):
            look(adapter).require()


def test_ties_are_held_against_the_stored_tensors(make_checkpoint: Make, tmp_path: Path) -> None:
    tied = copy(make_checkpoint(seed=5, tie_word_embeddings=True), tmp_path / "tied")
    file = tied.path / "model.safetensors"
    tensors = load_file(file)
    edit(tied.path / "config.json", tie_word_embeddings=False)
    with pytest.raises(InputError, match="no output layer is stored"):
        look(tied).require()
    edit(tied.path / "config.json", tie_word_embeddings=True)
    embedding = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": embedding.clone()}, file, metadata={"format": "pt"})
    assert look(tied).notes == ()
    save_file(tensors | {"lm_head.weight": embedding * 2}, file, metadata={"format": "pt"})
    (note,) = look(tied).notes
    assert "differ: transformers loads both" in note
    with pytest.raises(InputError, match="vLLM takes the embeddings for both"):
        look(tied, "vllm").require()


def test_admission_is_cheap_after_the_first(tiny: Checkpoint) -> None:
    look(tiny)
    started = time.process_time()
    look(tiny)
    assert time.process_time() - started < 3
