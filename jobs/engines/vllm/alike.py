"""Checkpoints of which vLLM makes another model than transformers does, refused before an engine starts."""

from __future__ import annotations

from pathlib import Path

from foreshock.errors import InputError
from foreshock.jobs.engines.rope import LONGROPE, rope_switch
from foreshock.jobs.model_files.fingerprint import check_weights, read_config
from foreshock.jobs.model_files.quantisation import FIX, quantisation_problem
from foreshock.jobs.model_files.safetensors_headers import stored_tensors
from foreshock.jobs.model_files.ties import read_ties
from foreshock.jobs.model_files.transformers_config import transformers_config
from foreshock.jobs.model_files.weight_files import further_safetensors


def require_alike(path: Path, max_model_len: int | None) -> None:
    """Raise InputError for a full model's directory that vLLM 0.32 does not compute as transformers does.

    Its output layer is the embeddings whenever the flag says so; LongRoPE's long factors hold for every row once
    `max_model_len` lies above the switch, and dynamic NTK's widest scale for every row always.
    """
    further = further_safetensors(path)
    if further:
        raise InputError(
            f"{', '.join(further)} beside the model's weights: vLLM reads every safetensors file there",
            path=path,
            fix="move the files that are no part of the model to another directory, or use engine transformers",
        )
    config, files = read_config(path / "config.json"), check_weights(path)
    problem = quantisation_problem(config, stored_tensors(files), path)
    if problem is not None:
        raise InputError(problem, path=path, fix=FIX)
    contradiction = read_ties(path, files, config).contradiction()
    if contradiction is not None:
        raise InputError(
            contradiction,
            path=path,
            fix="set tie_word_embeddings to false in its config.json if it was trained untied; else remove the output "
            "layer's tensor, or use engine transformers",
        )
    switch = rope_switch(transformers_config(path).get_text_config())
    if switch is None:
        return
    if switch.kind != LONGROPE:
        raise InputError(
            "its rotary frequencies are dynamic (NTK), which vLLM scales for rows of every length",
            path=path,
            fix="use engine transformers",
        )
    if max_model_len is None:
        raise InputError(
            f"its LongRoPE has other frequencies beyond {switch.at} tokens; vLLM takes those for every row once "
            "max_model_len lies above that",
            path=path,
            fix=f"engine.options.max_model_len: {switch.at} computes rows as transformers does; a larger one, if you "
            "set it, takes the long frequencies for all",
        )
