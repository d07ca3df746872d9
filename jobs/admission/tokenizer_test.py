"""Does the tokenizer read and write texts as its own files say, and does it read them at all?

transformers builds a tokenizer by the class that tokenizer_config.json names, which may be another's: a byte-level
tokenizer.json under LlamaTokenizerFast loses its spaces and gives ids that the model never saw; a class whose files are
missing gives an empty tokenizer without a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.weight_files import read_config
from foreshock.jobs.prompts.markers import control_tokens
from foreshock.jobs.prompts.tokenizer import Tokenizer, template_sources, token_id, tokenizer_digest

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
_SENTENCEPIECE = "tokenizer.model"


def tokenizer_problem(tokenizer: Tokenizer, folder: Path) -> str | None:
    """In what the loaded tokenizer differs from `folder`'s files; None if in nothing."""
    digest = hashlib.sha256(type(tokenizer).__qualname__.encode())
    digest.update(tokenizer_digest(folder).encode())
    key = digest.hexdigest()
    if key not in _known:  # the checkpoints of a run share one tokenizer
        _known[key] = _first_difference(tokenizer, folder)
    return _known[key]


def reference_file(folder: Path) -> str | None:
    """Name of the file that the tokenizer can be held against; None if there is none that can be read here."""
    if (folder / "tokenizer.json").is_file():
        return "tokenizer.json"
    return _SENTENCEPIECE if _sentencepiece(folder) is not None else None


def _first_difference(tokenizer: Tokenizer, folder: Path) -> str | None:
    try:
        if (folder / "tokenizer.json").is_file():
            problem = _against_tokenizer_json(tokenizer, folder / "tokenizer.json")
            return problem or other_ids(tokenizer, folder)
        return other_ids(tokenizer, folder) or _against_sentencepiece(tokenizer, folder) or _loss(tokenizer)
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises bare exceptions
        return f"the class {type(tokenizer).__name__} cannot read texts: {' '.join(str(error).split())[:200]}"


def _against_tokenizer_json(tokenizer: Tokenizer, file: Path) -> str | None:
    from tokenizers import Tokenizer as RawTokenizer

    try:
        raw: Any = RawTokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises bare exceptions for a file it cannot read
        return f"tokenizer.json cannot be read: {' '.join(str(error).split())[:200]}"
    raw.no_padding()
    raw.no_truncation()
    for token in written_tokens(tokenizer):
        problem = _token_problem(tokenizer, token, raw.token_to_id(token))
        if problem is not None:
            return problem
    for text in TEXTS:
        expected = raw.encode(text, add_special_tokens=False).ids
        problem = _other_ids(tokenizer, text, expected, "tokenizer.json")
        if problem is not None:
            return problem
        said = tokenizer.decode(expected, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        told = raw.decode(expected, skip_special_tokens=False)
        if said != told:
            named = type(tokenizer).__name__
            return f"the class {named} writes the tokens of {text!r} as {said!r}, tokenizer.json as {told!r}"
    return None


def written_tokens(tokenizer: Tokenizer) -> list[str]:
    """Control tokens that the chat templates write, and the end token: what prompts and stops are made of."""
    sources = template_sources(tokenizer)
    return sorted(token for token in control_tokens(tokenizer) if token in sources or token == tokenizer.eos_token)


def _token_problem(tokenizer: Tokenizer, token: str, told: int | None) -> str | None:
    """Why a control token is not the one that tokenizer.json calls `told`."""
    number = token_id(tokenizer, token)
    if told is None:
        return (
            f"{token!r} is not in tokenizer.json, so the row that transformers makes up for it ({number}) is not known "
            "to be the one that was trained"
        )
    if number != told:
        return f"the class {type(tokenizer).__name__} takes {token!r} for token {number}, tokenizer.json for {told}"
    if told not in tokenizer.encode(token, add_special_tokens=False):
        return f"{token!r} is token {told}, but is read as text (split_special_tokens in tokenizer_config.json)"
    return None


def other_ids(tokenizer: Tokenizer, folder: Path) -> str | None:
    """A control token of the prompts, or the end token, to which a further file gives another id."""
    files = {"added_tokens.json": _ids_of_added_tokens, "tokenizer_config.json": _ids_of_decoder}
    for name, read in files.items():
        stated = read(read_config(folder / name)) if (folder / name).is_file() else {}
        for token in written_tokens(tokenizer):
            number = token_id(tokenizer, token)
            if token in stated and stated[token] != number:
                return (
                    f"{token!r} is token {number} as loaded, and {stated[token]} in {name}: which row of the model was "
                    "trained for it is not known"
                )
    return None


def _ids_of_added_tokens(file: Mapping[str, Any]) -> Mapping[str, Any]:
    return file


def _ids_of_decoder(file: Mapping[str, Any]) -> Mapping[str, Any]:
    held = file.get("added_tokens_decoder")
    items = held.items() if isinstance(held, Mapping) else ()
    return {t["content"]: int(i) for i, t in items if isinstance(t, Mapping) and str(i).isdecimal() and "content" in t}


def _against_sentencepiece(tokenizer: Tokenizer, folder: Path) -> str | None:
    raw = _sentencepiece(folder)
    if raw is None:
        return None
    inner = [text for text in TEXTS if text == text.strip()]  # spaces at the ends are read by each library's own rules
    problems = (_other_ids(tokenizer, text, list(raw.encode(text)), _SENTENCEPIECE) for text in inner)
    return next((problem for problem in problems if problem is not None), None)


def _sentencepiece(folder: Path) -> Any:
    """The folder's SentencePiece model, None where there is none or the package is not here."""
    file = folder / _SENTENCEPIECE
    if not file.is_file():
        return None
    try:
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=str(file))
    except (ImportError, OSError, RuntimeError):
        return None  # a tiktoken file bears this name, too


def _other_ids(tokenizer: Tokenizer, text: str, expected: list[int], file: str) -> str | None:
    own = list(tokenizer.encode(text, add_special_tokens=False))
    if own == expected:
        return None
    return (
        f"the class {type(tokenizer).__name__} reads {text!r} as {len(own)} tokens ({_shown(own)}), {file} as "
        f"{len(expected)} ({_shown(expected)})"
    )


def _loss(tokenizer: Tokenizer) -> str | None:
    """A text of which letters or signs are lost; case and spaces may be, by a tokenizer's own rules."""
    for text in TEXTS:
        if not text.isascii():
            continue
        ids = list(tokenizer.encode(text, add_special_tokens=False))
        said = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if "".join(said.split()).casefold() != "".join(text.split()).casefold():
            return (
                f"the class {type(tokenizer).__name__} with {len(tokenizer)} tokens reads {text!r} as {len(ids)} of "
                f"them, which say {said!r}: files that it needs are missing, or are another class's"
            )
    return None


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:6])) + (", ..." if len(ids) > 6 else "")
