"""Admission by files: what speaks against a checkpoint is found, with the true reason, before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from foreshock.errors import InputError
from foreshock.jobs.admission import admit as admit_module
from foreshock.jobs.admission import remembered as remembered_module
from foreshock.jobs.admission.admit import Admission, admit, require_prompts
from foreshock.jobs.admission.remembered import Remembered
from foreshock.jobs.prompts.tokenizer import load_tokenizer
from foreshock.jobs.records.spec import Checkpoint

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
    assert str(point.path) in str(caught.value).partition("->")[2]


@pytest.mark.parametrize("named", ["LlamaTokenizer", "TokenizersBackend"])
def test_both_ways_out_of_two_readings_work(tiny: Checkpoint, tmp_path: Path, named: str) -> None:
    """Of an architecture whose class transformers chooses by config.json, and of one named in tokenizer_config.json."""
    point = copy(tiny, tmp_path)
    raw = json.loads((point.path / "tokenizer.json").read_text())
    raw["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False}
    (point.path / "tokenizer.json").write_text(json.dumps(raw))
    edit(point.path / "config.json", model_type="qwen2")
    edit(point.path / "tokenizer_config.json", tokenizer_class=named)
    with pytest.raises(InputError, match="tokenizer: the class"):
        require_prompts(point)
    as_it_is = tmp_path / "as-it-is"
    shutil.copytree(point.path, as_it_is, ignore=shutil.ignore_patterns("config.json", "*.safetensors"))
    edit(as_it_is / "tokenizer_config.json", tokenizer_class="TokenizersBackend")
    require_prompts(replace(point, tokenizer=as_it_is))
    by_class = tmp_path / "by-class"
    AutoTokenizer.from_pretrained(point.path).save_pretrained(by_class)
    require_prompts(replace(point, tokenizer=by_class))


@pytest.mark.parametrize("named", ["LlamaTokenizer", "Qwen2Tokenizer"])
def test_a_class_without_its_files_which_reads_nothing_is_refused(tiny: Checkpoint, tmp_path: Path, named: str) -> None:
    point = copy(tiny, tmp_path)
    (point.path / "tokenizer.json").unlink()
    edit(point.path / "tokenizer_config.json", tokenizer_class=named)
    with pytest.raises(InputError, match="files that it needs are missing"):
        look(point).require()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tokenizer_config.json", "[]", "expected a JSON object"),
        ("tokenizer.json", "{", r"tokenizer\.json:1: not valid JSON"),
        ("tokenizer.json", None, "neither tokenizer.json nor tokenizer.model is there"),
    ],
)
def test_a_tokenizer_that_cannot_be_loaded_says_which_file_is_at_fault(
    tiny: Checkpoint, tmp_path: Path, name: str, content: str | None, why: str
) -> None:
    point = copy(tiny, tmp_path)
    if content is None:
        (point.path / name).unlink()
    else:
        (point.path / name).write_text(content)
    with pytest.raises(InputError, match=why):
        look(point)


def test_a_sentencepiece_file_alone_names_the_packages_that_read_it(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    (point.path / "tokenizer.json").unlink()
    (point.path / "tokenizer.model").write_bytes(b"\x0a\x0d")
    with pytest.raises(InputError, match="needs the packages sentencepiece and protobuf"):
        look(point)


def test_the_template_of_a_processor_is_used_where_there_is_no_other(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    template = load_tokenizer(point.path).chat_template
    (point.path / "chat_template.jinja").unlink()
    (point.path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_tokenizer(point.path).chat_template == template


def test_a_template_beside_the_weights_that_would_not_be_used_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(point.path / name, tmp_path / name)
    template = (point.path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.jinja").write_text(template)
    beside = Checkpoint("run", 1, point.path, tokenizer=tmp_path)
    look(beside).require()
    (tmp_path / "chat_template.jinja").write_text(template + "{# older #}")
    with pytest.raises(InputError, match=r"chat_template\.jinja lies beside the weights"):
        look(beside).require()


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


def test_an_output_layer_of_another_name_is_told_by_its_shape(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    file = point.path / "model.safetensors"
    tensors = load_file(file)
    head = tensors.pop("lm_head.weight")
    save_file(tensors | {"head.weight": head}, file, metadata={"format": "pt"})
    assert [f.found for f in look(point).findings if f.what == "output layer"] == ["its own"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="no output layer is stored"):
        look(point).require()


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_weights_that_were_never_filled_are_refused(tiny: Checkpoint, tmp_path: Path, name: str) -> None:
    point = copy(tiny, tmp_path)
    file = point.path / "model.safetensors"
    tensors = load_file(file)
    tensors[name] = torch.zeros_like(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"weights: {name} holds only zeros"):
        look(point).require()
    tensors[name][-1, -1] = 1.0
    save_file(tensors, file, metadata={"format": "pt"})
    look(point).require()


def test_small_files_say_what_a_run_should_know(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    template = load_tokenizer(point.path).chat_template
    (point.path / "chat_template.jinja").write_text(template)
    edit(point.path / "tokenizer_config.json", chat_template=template)
    (point.path / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, "repetition_penalty": 1.0}))
    assert look(point).notes == ()
    edit(point.path / "tokenizer_config.json", chat_template=template + "{# older #}")
    edit(point.path / "generation_config.json", repetition_penalty=1.05, stop_strings=["END"])
    one, two = look(point).notes
    assert "chat_template.jinja and that of tokenizer_config.json differ; the first is the one that is used" in one
    assert "repetition_penalty 1.05" in two
    assert "not applied" in two
    assert "sampling.stop" in two


def test_tokens_that_the_model_has_no_row_of_are_refused_where_prompts_hold_them(
    tiny: Checkpoint, tmp_path: Path
) -> None:
    point = copy(tiny, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(point.path)
    tokenizer.add_tokens(["<|further|>"], special_tokens=True)
    tokenizer.save_pretrained(point.path)
    (note,) = look(point).notes
    assert "1 of its tokens ('<|further|>') have no row" in note
    tokenizer.chat_template = tokenizer.chat_template + "{% if add_generation_prompt %}<|further|>{% endif %}"
    tokenizer.save_pretrained(point.path)
    with pytest.raises(InputError, match="the chat template writes them"):
        look(point).require()


def test_an_adapter_that_cannot_be_read_is_found_by_its_headers(
    tiny: Checkpoint, make_adapter: Make, make_checkpoint: Make, tmp_path: Path
) -> None:
    resized = make_adapter(tiny, 11)
    file = resized.path / "adapter_model.safetensors"
    grown = torch.zeros(500, 8)
    save_file(load_file(file) | {"base_model.model.lm_head.weight": grown}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="the vocabulary was resized in training"):
        look(resized).require()
    older = make_adapter(tiny, 12)
    torch.save(load_file(older.path / "adapter_model.safetensors"), older.path / "adapter_model.bin")
    (older.path / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"only one .* is read"):
        look(older).require()
    stacked = make_adapter(tiny, 13, base_model_name_or_path=str(make_adapter(tiny, 14).path))
    with pytest.raises(InputError, match="is an adapter itself"):
        look(stacked)


def test_an_adapter_that_was_not_saved_whole_is_refused(tiny: Checkpoint, make_adapter: Make) -> None:
    adapter = make_adapter(tiny, 13)
    file = adapter.path / "adapter_model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "layers.1.self_attn.q_proj" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"'model\.layers\.1\.self_attn\.q_proj': it was not saved whole"):
        look(adapter).require()
    save_file({name: t for name, t in kept.items() if "layers.0." in name}, file, metadata={"format": "pt"})
    edit(adapter.path / "adapter_config.json", layers_to_transform=[0])
    look(adapter).require()
    edit(adapter.path / "adapter_config.json", target_modules=["down_proj", "k_proj", "q_proj", "v_proj"])
    with pytest.raises(InputError, match=r"'model\.layers\.0\.self_attn\.k_proj': it was not saved whole"):
        look(adapter).require()


@pytest.mark.parametrize(
    "said", [{"target_modules": ["q_proj"]}, {"exclude_modules": ["v_proj"]}, {"layers_to_transform": [0]}]
)
def test_factors_that_peft_would_leave_out_are_refused(
    tiny: Checkpoint, make_adapter: Make, said: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="peft would leave them out"):
        look(make_adapter(tiny, 13, **said)).require()


def test_layers_that_predict_further_tokens_have_no_factors(tiny: Checkpoint, make_adapter: Make) -> None:
    adapter = make_adapter(tiny, 13)
    file = tiny.path / "model.safetensors"
    further = {k.replace("layers.1.", "layers.2."): t for k, t in load_file(file).items() if "layers.1." in k}
    base = Path(shutil.copytree(tiny.path, adapter.path.parent / "base"))
    save_file(load_file(file) | further, base / "model.safetensors", metadata={"format": "pt"})
    edit(base / "config.json", num_nextn_predict_layers=1)
    edit(adapter.path / "adapter_config.json", base_model_name_or_path=str(base))
    look(adapter).require()


def test_two_tensors_in_one_place_are_refused(tiny: Checkpoint, make_adapter: Make) -> None:
    adapter = make_adapter(tiny, 13)
    file = adapter.path / "adapter_model.safetensors"
    held = load_file(file)
    name = next(iter(held))
    save_file(held | {name.removeprefix("base_model.model."): 2 * held[name]}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="belong in one place"):
        look(adapter).require()


def test_a_base_that_stores_other_names_is_not_called_another_model(
    tiny: Checkpoint, make_adapter: Make, tmp_path: Path
) -> None:
    base = copy(tiny, tmp_path)
    tensors = {
        name.replace("model.", "language_model.model."): t
        for name, t in load_file(base.path / "model.safetensors").items()
    }
    save_file(tensors, base.path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="stores its tensors under other names"):
        look(make_adapter(tiny, 14, base_model_name_or_path=str(base.path))).require()


def test_two_files_that_give_a_token_of_the_prompts_other_ids_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    tokenizer = load_tokenizer(point.path)
    first, second = tokenizer.all_special_tokens[:2]
    tokenizer.chat_template = "{{ messages[0].content }}" + first + second
    tokenizer.save_pretrained(point.path)
    held = {"content": first, "special": True, "lstrip": False, "rstrip": False, "normalized": False}
    number, other = map(tokenizer.convert_tokens_to_ids, (first, second))
    config = point.path / "tokenizer_config.json"
    edit(config, added_tokens_decoder={str(number): held, str(other): held | {"content": second}})
    look(point).require()
    edit(config, added_tokens_decoder={str(other): held, str(number): held | {"content": second}})
    with pytest.raises(InputError, match=r"as loaded, and \d+ in tokenizer_config\.json.*\n.*save_pretrained"):
        look(point).require()
    edit(config, added_tokens_decoder={})
    (point.path / "added_tokens.json").write_text(json.dumps({first: other}))
    with pytest.raises(InputError, match=r"as loaded, and \d+ in added_tokens\.json"):
        look(point).require()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"eos_token": "<|made up|>"}, r"'<\|made up\|>' is not in tokenizer\.json"),
        ({"split_special_tokens": True}, "but is read as text"),
    ],
)
def test_control_tokens_that_are_none_in_the_model_are_refused(
    tiny: Checkpoint, tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    point = copy(tiny, tmp_path)
    edit(point.path / "tokenizer_config.json", **said)
    with pytest.raises(InputError, match=message):
        look(point).require()


@pytest.mark.parametrize(
    ("template", "note"),
    [
        ("\ufeff{{ messages[-1].content }}", "byte order mark"),
        ("{% for m in messages %}{{ m.content }}<|odd end|>{% endfor %}", "is no token of the tokenizer"),
        (
            "{{ messages[0].content }}{% if messages | length > 1 %}{{ none + 1 }}{% endif %}",
            "renders no answered turn",
        ),
    ],
)
def test_templates_that_do_what_none_should_are_noted(
    tiny: Checkpoint, tmp_path: Path, template: str, note: str
) -> None:
    point = copy(tiny, tmp_path)
    (point.path / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert any(note in said for said in look(point).notes)


def test_a_template_that_draws_at_random_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    template = load_tokenizer(point.path).chat_template
    (point.path / "chat_template.jinja").write_text("{{ ['Hi', 'Hello'] | random }}" + template)
    with pytest.raises(InputError, match="draws at random"):
        require_prompts(point)


def test_an_empty_template_is_not_taken_for_none(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    (point.path / "chat_template.jinja").write_text("")
    with pytest.raises(InputError, match=r"chat_template\.jinja: is empty"):
        require_prompts(point)


def test_models_of_other_tasks_and_shapes_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    config, weights = point.path / "config.json", point.path / "model.safetensors"
    edit(config, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(InputError, match="it is not a language model"):
        look(point).require()
    edit(config, architectures=["LlamaForCausalLM"], vocab_size=77)
    with pytest.raises(InputError, match=r"embed_tokens\.weight has \d+ rows, config\.json says a vocabulary of 77"):
        look(point).require()
    shutil.copy(tiny.path / "config.json", config)
    held = load_file(weights)
    name = next(name for name in held if "q_proj" in name)
    save_file(held | {name: held[name][:0]}, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="was saved without gathering it"):
        look(point).require()


def test_layers_and_quantisations_that_would_be_left_out_are_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    layers = json.loads((point.path / "config.json").read_text())["num_hidden_layers"]
    for stated in (layers - 1, layers + 1):
        edit(point.path / "config.json", num_hidden_layers=stated)
        with pytest.raises(InputError, match=rf"the weights hold {layers} layers? .*config.json says {stated}"):
            look(point).require()
    edit(point.path / "config.json", num_hidden_layers=layers - 1, num_nextn_predict_layers=1)
    look(point).require()
    edit(point.path / "config.json", num_hidden_layers=layers, quantization_config={"quant_method": "newer"})
    with pytest.raises(InputError, match="does not know the quantisation 'newer'"):
        look(point).require()


def test_rotary_frequencies_of_an_unknown_kind_are_refused_when_planned(tiny: Checkpoint, tmp_path: Path) -> None:
    point = copy(tiny, tmp_path)
    edit(point.path / "config.json", rope_parameters={"rope_type": "newer", "rope_theta": 1e4})
    with pytest.raises(InputError, match="rope_type 'newer' is not known"):
        look(point).require()


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
