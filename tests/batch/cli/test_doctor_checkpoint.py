"""`foreshock doctor CHECKPOINT`: one page, and an exit code that says whether it is admitted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from foreshock.batch.cli.app import app
from foreshock.errors import InputError
from foreshock.jobs.records.spec import Checkpoint


def doctor(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], terminal_width=200)


def test_a_sound_checkpoint_is_admitted_and_its_prompts_are_shown(tiny: Checkpoint) -> None:
    result = doctor(tiny.path, "--load")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert said.endswith("admitted")
    assert "reasoning from" in said
    assert "give finite logits" in said
    document = json.loads(doctor(tiny.path, "--json").stdout)
    assert document["admitted"] is True
    assert {"prompts", "tokenizer", "output layer", "positions"} == {f["what"] for f in document["findings"]}


def test_a_refused_one_says_why_and_exits_with_1(
    tiny: Checkpoint, make_adapter: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    result = doctor(make_adapter(tiny, 1, init_lora_weights="pissa").path, "--json")
    assert result.exit_code == 1
    (reason,) = [f for f in json.loads(result.stdout)["findings"] if f["state"] == "refused"]
    assert "changing the base's weights" in reason["found"]
    shutil.copytree(tiny.path, tmp_path / "step-7")
    stated = json.loads((tmp_path / "step-7" / "tokenizer_config.json").read_text())
    (tmp_path / "step-7" / "tokenizer_config.json").write_text(
        json.dumps(stated | {"tokenizer_class": "LlamaTokenizerFast"})
    )
    assert "not admitted" in doctor(tmp_path / "step-7").output


def test_what_holds_no_model_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor" / "model_world_size_1_rank_0.pt").write_bytes(b"x")
    for path, message in ((tmp_path, "verl.model_merger"), (tmp_path / "absent", "no such checkpoint directory")):
        result = doctor(path)
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
