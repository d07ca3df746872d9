"""Keys of an adapter's configuration: harmless, read, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreshock.jobs.model_files.adapter_config import AdapterError, check_config

PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "base"}
FILE = Path("adapter_config.json")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "rank_pattern": {"q_proj": 4}},
        {"layers_to_transform": [1, 2], "layers_pattern": "layers", "exclude_modules": ["lm_head"]},
        {"target_modules": r".*\.(q|v)_proj", "layers_to_transform": 1, "modules_to_save": ["lm_head"]},
        {
            "use_dora": False,
            "use_qalora": False,
            "qalora_group_size": 16,
            "layer_replication": None,
            "corda_config": {},
        },
        {"a_key_of_next_year": None, "another": False, "a_third": {}},
    ],
)
def test_what_leaves_the_arithmetic_as_it_is_passes(more: dict[str, Any]) -> None:
    check_config(PLAIN | more, FILE)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"init_lora_weights": "pissa"}, "changing the base's weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "changing the base's weights"),
        ({"init_lora_weights": "olora"}, "changing the base's weights"),
        ({"init_lora_weights": "loftq"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "corda"}, "changing the base's weights"),
        ({"init_lora_weights": "of_next_year"}, "not known to leave the base as it is"),
        ({"lora_bias": True}, "trained biases"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"trainable_token_indices": [3]}, "single rows of the embeddings"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "parameters"),
        ({"alora_invocation_tokens": [1, 2]}, "invocation tokens"),
        ({"task_type": "SEQ_CLS"}, "not an adapter of a causal language model"),
        ({"a_key_of_next_year": "on"}, "unknown key 'a_key_of_next_year'"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern is"),
        ({"alpha_pattern": {"(": 4}}, "not a regular expression"),
        ({"target_modules": "model.(q"}, "target_modules: .* is not a regular expression"),
        ({"layers_pattern": ["layers", "("]}, "layers_pattern: .* is not a regular expression"),
        ({"target_modules": 5}, "target_modules is 5; valid: a list of names or one regular expression"),
        ({"exclude_modules": [1]}, r"exclude_modules is \[1\]"),
        ({"modules_to_save": "lm_head"}, "modules_to_save is 'lm_head'; valid: a list of names$"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform is .*; valid: a whole number"),
        ({"r": True}, "r True and lora_alpha 16"),
        ({"lora_alpha": float("inf")}, "a finite number"),
        ({"use_rslora": "false"}, "use_rslora is 'false'; valid: true, false"),
    ],
)
def test_what_changes_it_is_refused_with_the_reason(more: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        check_config(PLAIN | more, FILE)


def test_numbers_that_are_not_given_are_not_guessed() -> None:
    with pytest.raises(AdapterError, match="r 8 and lora_alpha None"):
        check_config({key: value for key, value in PLAIN.items() if key != "lora_alpha"}, FILE)
    with pytest.raises(AdapterError, match="has no peft_type"):
        check_config({"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}, FILE)
