"""Whether a checkpoint's output layer is its embeddings: what config.json says, held against the tensors really stored.

transformers ties two stored tensors only if they are equal and vLLM whenever the flag says so, so a checkpoint in which
flag and tensors disagree is another model in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.safetensors_headers import StoredTensor, same_numbers, stored_tensors
from foreshock.jobs.model_files.transformers_config import transformers_config

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings|tokens_embed)\.weight$")
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out|output_layer|output)\.weight$")


def is_embedding(name: str) -> bool:
    """Whether a stored tensor is the input embeddings of the text model."""
    return _EMBEDDING.search(name) is not None


def is_output(name: str) -> bool:
    """Whether a stored tensor is the output layer."""
    return _OUTPUT.search(name) is not None and not re.search(r"\.layers?\.|\.h\.|\.blocks?\.", name)


@dataclass(frozen=True, slots=True)
class Ties:
    """`flag`: what the configuration says. `embedding`, `output`: names of the stored tensors, None where there is none
    under a name that is known. `equal`: whether two stored ones hold the same numbers; None unless both are stored."""

    flag: bool
    embedding: str | None
    output: str | None
    equal: bool | None

    @property
    def tied(self) -> bool:
        """Whether the model is tied as transformers loads it."""
        return self.flag and self.equal is not False

    def problem(self) -> str | None:
        """Why no model can be made of flag and tensors; None if one can."""
        if not self.flag and self.output is None and self.embedding is not None:
            return (
                "config.json says tie_word_embeddings false, but no output layer is stored (nothing like "
                "lm_head.weight): it would be filled with random numbers"
            )
        return None

    def contradiction(self) -> str | None:
        """In which way flag and tensors disagree although transformers loads them; None if they agree."""
        if self.flag and self.equal is False:
            return (
                f"config.json says tie_word_embeddings true, but {self.embedding} and {self.output} are stored and "
                "differ: transformers loads both, vLLM takes the embeddings for both"
            )
        return None


def read_ties(path: Path, weights: Iterable[Path], config: Mapping[str, Any]) -> Ties:
    """Flag and tensors of a full model's directory; `config` is its parsed config.json.

    .bin files are not looked into: they hold both names of tied tensors.
    """
    files = list(weights)
    flag = stated_tie(path, config)
    if any(file.suffix != ".safetensors" for file in files):
        return Ties(flag, None, None, None)
    stored = stored_tensors(files)
    embedding = next(filter(is_embedding, sorted(stored, key=len)), None)
    output = next(filter(is_output, sorted(stored, key=len)), None)
    if output is None and embedding is not None:
        output = _by_shape(stored, embedding)
    equal = None
    if embedding is not None and output is not None:
        equal = same_numbers(stored[embedding], stored[output])
    return Ties(flag, embedding, output, equal)


def _by_shape(stored: Mapping[str, StoredTensor], embedding: str) -> str | None:
    """An output layer under a name that is not known (DeepSeek V4's `head.weight`): the one further tensor of the
    embeddings' shape that is no part of a layer."""
    shape = stored[embedding].shape
    found = [
        name
        for name, tensor in stored.items()
        if tensor.shape == shape and name != embedding and not re.search(r"\.\d+\.|embed|wpe|position", name)
    ]
    return found[0] if len(found) == 1 else None


def stated_tie(path: Path, config: Mapping[str, Any]) -> bool:
    """`tie_word_embeddings` of a parsed config.json, else its model class's default."""
    text = config.get("text_config")
    for section in (config, text if isinstance(text, Mapping) else {}):
        if isinstance(section.get("tie_word_embeddings"), bool):
            return bool(section["tie_word_embeddings"])
    try:
        found = transformers_config(path)
    except (OSError, ValueError, KeyError):
        return True  # the default of configurations; loading says what is wrong with this one
    return bool(getattr(found, "tie_word_embeddings", True))
