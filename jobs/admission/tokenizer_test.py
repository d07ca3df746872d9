"""Does the tokenizer read and write texts as its own tokenizer.json says?

transformers builds a tokenizer by the class that tokenizer_config.json names, which may be another's: a byte-level
tokenizer.json under LlamaTokenizerFast loses its spaces and gives ids that the model never saw.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from foreshock.jobs.prompts.tokenizer import Tokenizer

TEXTS = (
    "def solve(x):\n    return x + 3\n",
    "\tif n % 2 == 0:\n\t\treturn [1, 2, 3]  # two  spaces",
    "I read the task: first the loop, then the sum; don't forget the empty list!",
    "  leading and trailing spaces  ",
    "12345 67.89 -1e-9 0xFF",
    "\n\n\nparagraphs\n\n\nand\r\nlines",
    "Grüße, naïve café; 数据 и данные; 🙂",
    'print(f"{a!r:>10}", end="")',
    "x",
    " ",
)
"""Texts with what code and prose hold: runs of spaces, tabs, line ends, digits, other scripts."""

_known: dict[str, str | None] = {}


def tokenizer_problem(tokenizer: Tokenizer, folder: Path) -> str | None:
    """In what the loaded tokenizer differs from `folder`'s tokenizer.json; None if in nothing, or if there is none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    digest = hashlib.sha256(type(tokenizer).__qualname__.encode())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    key = digest.hexdigest()
    if key not in _known:  # the checkpoints of a run share one tokenizer
        _known[key] = _first_difference(tokenizer, file)
    return _known[key]


def _first_difference(tokenizer: Tokenizer, file: Path) -> str | None:
    from tokenizers import Tokenizer as RawTokenizer

    try:
        raw: Any = RawTokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions for a file it cannot read
        return f"tokenizer.json cannot be read: {' '.join(str(error).split())[:200]}"
    raw.no_padding()
    raw.no_truncation()
    named = type(tokenizer).__name__
    for text in TEXTS:
        expected = raw.encode(text, add_special_tokens=False).ids
        own = list(tokenizer.encode(text, add_special_tokens=False))
        if own != expected:
            return (
                f"the class {named} reads {text!r} as {len(own)} tokens ({_shown(own)}), tokenizer.json as "
                f"{len(expected)} ({_shown(expected)})"
            )
        said = tokenizer.decode(expected, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        told = raw.decode(expected, skip_special_tokens=False)
        if said != told:
            return f"the class {named} writes the tokens of {text!r} as {said!r}, tokenizer.json as {told!r}"
    return None


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:6])) + (", ..." if len(ids) > 6 else "")
