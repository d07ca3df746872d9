"""Admission by files: what speaks against a checkpoint is found, with the true reason, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from foreshock.errors import InputError
from foreshock.jobs.admission import admit as admit_module
from foreshock.jobs.admission import remembered as remembered_module
from foreshock.jobs.admission.admit import Admission, admit
from foreshock.jobs.admission.remembered import Remembered
from foreshock.jobs.prompts.tokenizer import load_tokenizer
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


def test_another_process_does_not_look_again(tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, looks = copy(tiny, tmp_path), []
    look_at = admit_module._look
    monkeypatch.setattr(admit_module, "_look", lambda *given: looks.append(given) or look_at(*given))

    def found(folder: Path = tmp_path / "kept", engine: str = "transformers") -> Admission:
        return admit(point, engine, {}, remembered=Remembered(folder))  # as another process has it

    first = found()
    assert found() == first
    assert len(looks) == 1
    found(engine="fake")
    edit(point.path / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    assert found().refused
    assert found().refused
    assert len(looks) == 3
    for file in (tmp_path / "kept").iterdir():
        file.write_text("{")
    assert found().refused
    monkeypatch.setattr(remembered_module, "code_digest", lambda: "other code")
    assert found().refused
    (tmp_path / "file").touch()
    assert found(tmp_path / "file" / "below").refused  # cannot be written
    assert len(looks) == 6


def test_checkpoints_with_the_same_files_share_one_tokenizer(tiny: Checkpoint, tmp_path: Path) -> None:
    one, other = copy(tiny, tmp_path / "a"), copy(tiny, tmp_path / "b")
    assert load_tokenizer(one.path) is load_tokenizer(other.path)
    before = load_tokenizer(one.path)
    (one.path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert load_tokenizer(one.path).chat_template != before.chat_template
    assert load_tokenizer(other.path) is before
