"""Whether transformers applies the quantisation that a checkpoint states, or would leave it out with a warning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.lean_transformers import leave_out_sklearn
from foreshock.jobs.model_files.fingerprint import read_config
from foreshock.jobs.model_files.quantisation import quantises_weights, statement


def require_known_quantisation(path: Path) -> None:
    """Raise InputError for a full model's directory whose quantisation transformers skips: it does not know it, or does
    not look where it is stated. It takes packed numbers for weights then."""
    config = read_config(path / "config.json")
    stated = statement(config, path)
    if not isinstance(stated, Mapping) or not quantises_weights(stated):
        return
    if config.get("quantization_config") is None:
        raise InputError(
            "it states a quantisation where transformers does not look (compression_config, text_config or ModelOpt's "
            "own file), so it would be left out",
            path=path,
            fix="use engine vllm, or state it as quantization_config at the top of config.json",
        )
    method = stated.get("quant_method")
    if method is None:
        return
    leave_out_sklearn()
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    known = {str(name).removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    if method not in known:
        raise InputError(
            f"transformers does not know the quantisation {method!r} of config.json and would leave it out",
            path=path,
            fix="use engine vllm, or a transformers that knows it, or save the model in bfloat16",
        )
