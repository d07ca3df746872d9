"""Adapter directories: configuration, base, scale, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foreshock.jobs.model_files.adapters import AdapterError, base_of, read_adapter

CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "../base"}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    return folder


def write(folder: Path, **changes: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def test_the_base_may_be_absolute_or_beside_the_adapter(adapter: Path) -> None:
    base = (adapter.parent / "base").resolve()
    for named in (str(base), "../base", "base"):
        assert base_of(write(adapter, base_model_name_or_path=named)) == base


@pytest.mark.parametrize("named", ["/nowhere/base", "some-lab/some-model", "../gone"])
def test_a_base_that_is_not_here_is_named_with_the_places(adapter: Path, named: str) -> None:
    with pytest.raises(AdapterError, match="is not here; looked at") as caught:
        read_adapter(write(adapter, base_model_name_or_path=named))
    assert named in str(caught.value)
    assert "write its directory into base_model_name_or_path" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type 'IA3' cannot be served"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases cannot be served"),
        ({"r": 0}, "r 0 and lora_alpha 16"),
        ({"base_model_name_or_path": None}, "names no base model"),
    ],
)
def test_what_cannot_be_served_exactly_is_refused(adapter: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        read_adapter(write(adapter, **changes))


def test_scales_follow_rank_alpha_and_their_patterns(adapter: Path) -> None:
    assert read_adapter(write(adapter)).scale("model.layers.0.q_proj") == 2.0
    assert read_adapter(write(adapter, use_rslora=True)).scale("x") == pytest.approx(16 / 8**0.5)
    patterned = read_adapter(write(adapter, rank_pattern={"q_proj": 32}, alpha_pattern={r"layers\.1\.v_proj": 4}))
    assert patterned.scale("model.layers.0.q_proj") == 0.5
    assert patterned.scale("model.layers.1.v_proj") == 0.5
    assert patterned.scale("model.layers.0.v_proj") == 2.0
    assert patterned.max_rank == 32


def test_a_broken_configuration_is_named_with_its_line(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text('{\n"r": \n')
    with pytest.raises(AdapterError, match=r"adapter_config\.json:3: not valid JSON"):
        read_adapter(adapter)
