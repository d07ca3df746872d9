"""Mistral's tekken.json beside a tokenizer.json: two files that should say the same."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.model_files.fingerprint import read_config
from foreshock.jobs.prompts.tokenizer import TEKKEN, Tokenizer

_BYTE_LEVEL = ("!", "Ġ")
"""Signs by which a vocabulary that spells bytes is known: itself, and a space."""


def tekken_differs(folder: Path, tokenizer: Tokenizer) -> str | None:
    """How the vocabulary of the folder's tekken.json differs from that of its tokenizer.json, which is the one that is
    read, in words; None if it does not, or where one of them is missing."""
    file = folder / TEKKEN
    if not file.is_file() or not (folder / "tokenizer.json").is_file():
        return None
    try:
        theirs = dict(_tokens(read_config(file)))
    except (InputError, KeyError, TypeError, ValueError) as error:
        return f"{TEKKEN} cannot be read ({' '.join(str(error).split())[:80]}); tokenizer.json is used"
    ours = tokenizer.get_vocab()
    if not all(sign in ours for sign in _BYTE_LEVEL):
        return f"tokenizer.json does not spell bytes as {TEKKEN} does; tokenizer.json is used"
    other = [text for text, number in theirs.items() if ours.get(text) != number]
    if not other:
        return None
    first = other[0]
    here = ours.get(first)
    return (
        f"{len(other)} of {len(theirs)} tokens of {TEKKEN} have other ids in tokenizer.json, which is used; first: "
        f"{first!r} is {theirs[first]} there and {'none' if here is None else here} here"
    )


def _tokens(data: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """(token as byte-level vocabularies spell it, id) of every ordinary token in use."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    spelled = bytes_to_unicode()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    n_special = int(data["config"]["default_num_special_tokens"])
    n_ordinary = int(data["config"]["default_vocab_size"]) - n_special
    for entry in data["vocab"][:n_ordinary]:
        yield "".join(spelled[byte] for byte in base64.b64decode(entry["token_bytes"])), int(entry["rank"]) + n_special
