"""A model that reads a whole text at once has no log-probabilities of its tokens, and says so."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from foreshock.jobs.engines.causality import require_causal
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.model_files.fingerprint import CheckpointError


@pytest.mark.parametrize("decoder", [True, False])
def test_later_tokens_may_not_change_what_is_said_of_earlier_ones(decoder: bool) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**sizes, vocab_size=50, is_decoder=decoder, initializer_range=0.5)
    model = LogitsModel(BertLMHeadModel(config).eval(), torch.device("cpu"))
    if decoder:
        require_causal(model)
    else:
        with pytest.raises(CheckpointError, match="later tokens change what BertLMHeadModel says of earlier ones"):
            require_causal(model)
    assert model.calls == 0
