"""Tokenizers and the exact prompt/prefill boundary.

Prompt and prefill are tokenised separately and their ids joined. No token can then span the boundary, `prefill_start`
is exact, and the prompt's ids are the same at every level. The prefill is tokenised as text that continues a sequence,
not as the start of one (some tokenizers put a space in front of a start).
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from foreshock.errors import InputError
from foreshock.jobs.lean_transformers import reading_transformers
from foreshock.jobs.model_files.transformers_config import require_dtypes, transformers_config
from foreshock.jobs.model_files.weight_files import read_config, require_content

Tokenizer = Any
"""A transformers tokenizer; transformers has no type stubs."""

_ANY_TEXT = "def f(x):\n    return x + 1  # one"
TEKKEN = "tekken.json"
"""Mistral's own tokenizer file."""


class PrefillTextError(InputError):
    """A prefill that cannot be forced as reasoning: it holds what would end the section, or part of the answer."""


_FILES = ("tokenizer", "special_tokens_map", "added_tokens", "vocab", "merges", "chat_template", TEKKEN)


def tokenizer_files(folder: Path) -> list[Path]:
    """Files that decide what a folder's tokenizer is, sorted. Of config.json it reads the model's type."""
    held = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    own = [file for file in held if file.name.startswith(_FILES) or file.suffix in (".jinja", ".model", ".py")]
    return sorted(file for file in [*own, folder / "config.json"] if file.is_file())


def tokenizer_digest(folder: Path) -> str:
    """Digest of a folder's tokenizer, by the names and bytes of its files."""
    files = tokenizer_files(folder)
    return _digest(tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=256)
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(f"{Path(name).name}\n{size}\n".encode())
        digest.update(Path(name).read_bytes())
    return digest.hexdigest()


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint directory; checkpoints whose files are the same share one. Raises InputError when
    it cannot be loaded."""
    folder = Path(path)
    key = tokenizer_digest(folder) if folder.is_dir() else str(path)
    return _loaded(key, str(path))


_by_digest: OrderedDict[str, Tokenizer] = OrderedDict()
_KEPT = 8


def _loaded(key: str, path: str) -> Tokenizer:
    if key not in _by_digest:
        _by_digest[key] = _load(path)
        if len(_by_digest) > _KEPT:
            _by_digest.popitem(last=False)
    _by_digest.move_to_end(key)
    return _by_digest[key]


def _load(path: str) -> Tokenizer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = _from_tekken(Path(path)) if _is_tekken_alone(Path(path)) else _from_files(path)
            tokenizer.encode(_ANY_TEXT, add_special_tokens=False)  # a class whose unknown token is not there fails here
            return tokenizer
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise _unusable(Path(path), error) from error


def _unusable(path: Path, error: Exception) -> InputError:
    """Why a folder gives no tokenizer, in words that transformers has not always."""
    for name in ("tokenizer_config.json", "tokenizer.json"):
        if (path / name).is_file():
            try:
                config = read_config(path / name)
            except InputError as broken:
                return broken
            if "auto_map" in config:
                return InputError(
                    f"its tokenizer is code of its own ({config.get('tokenizer_class')}), which is not run here",
                    path=path / name,
                    fix="save it as tokenizer.json where that code runs, and remove auto_map",
                )
    if (path / "config.json").is_file():  # transformers reads it on the way to the tokenizer
        try:
            transformers_config(path)
        except Exception as broken:  # noqa: BLE001 - whatever it raises for a configuration of wrong types
            said = " ".join(str(broken).split())[:300]
            return InputError(f"transformers cannot read it: {said}", path=path / "config.json")
    held = [name for name in ("tokenizer.json", "tokenizer.model") if (path / name).is_file()]
    if held == ["tokenizer.model"]:  # what transformers says here is about tiktoken, its last resort
        return InputError(
            "its tokenizer is tokenizer.model alone, which could not be read; a SentencePiece file needs the packages "
            "sentencepiece and protobuf, a tiktoken file the package tiktoken",
            path=path,
            fix="pip install sentencepiece protobuf (or tiktoken), or convert it once: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...) writes tokenizer.json",
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(": ")
    said = f"({first})" if held else "(neither tokenizer.json nor tokenizer.model is there)"
    return InputError(
        f"no usable tokenizer {said}; valid: a directory written by tokenizer.save_pretrained",
        path=path,
        fix="copy tokenizer.json and tokenizer_config.json of the base model into the checkpoint",
    )


def _from_files(path: str) -> Tokenizer:
    """By transformers, from the Hugging Face files. Not through mistral-common, which takes the place of tokenizer and
    template where it is installed: one folder would be rendered in two ways."""
    if (Path(path) / "config.json").is_file():  # read on the way to the tokenizer, and refused there if torch is
        require_dtypes(read_config(Path(path) / "config.json"))
    with reading_transformers() as transformers:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, mistral_format=False, trust_remote_code=False)
    if not tokenizer.chat_template:
        _require_no_empty_template(Path(path))
        tokenizer.chat_template = _processor_template(Path(path))
    return tokenizer


def _require_no_empty_template(folder: Path) -> None:
    """Raise InputError for a template's file that holds nothing: no template is what a base model has."""
    file = folder / "chat_template.jinja"
    require_content(file)
    if file.exists():
        raise InputError(
            "is empty, so how the model is asked is not said",
            path=file,
            fix="copy it again from the model it was trained from, or remove it: prompts are plain text then",
        )


def _processor_template(folder: Path) -> str | None:
    """The template of chat_template.json, which models that also read images are asked with; only their processor
    reads it. Raises InputError for a file that holds none."""
    file = folder / "chat_template.json"
    if not file.is_file():
        return None
    template = read_config(file).get("chat_template")
    if not isinstance(template, str):
        raise InputError("holds no chat_template", path=file, fix="copy the file of the base model, or remove it")
    return template


def _is_tekken_alone(path: Path) -> bool:
    return (path / TEKKEN).is_file() and not (path / "tokenizer.json").is_file()


def _from_tekken(path: Path) -> Tokenizer:
    """Mistral's own file, converted. Its chat template is the folder's own or none: mistral-common would make one up
    where it is installed."""
    template = path / "chat_template.jinja"
    text = template.read_text(encoding="utf-8") if template.is_file() else ""
    with reading_transformers():
        from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

        tokenizer = convert_tekken_tokenizer(str(path / TEKKEN), chat_template=text)
    tokenizer.chat_template = text or None
    tokenizer.name_or_path = str(path)
    return tokenizer


def template_sources(tokenizer: Tokenizer) -> str:
    """Text of all the tokenizer's chat templates."""
    template = tokenizer.chat_template
    return "\n".join(template.values()) if isinstance(template, dict) else str(template or "")


def encode_prompt(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Ids of a rendered conversation; the text carries its own control tokens, so none are added."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def continue_text(tokenizer: Tokenizer, text: str, *, after_text: bool = False) -> tuple[int, ...]:
    """Ids of text that continues a sequence. `after_text`: one that ends in text and in no control token; Llama 2's
    tokenizers begin what follows a control token with a space."""
    for anchor in (*(_text_anchors(tokenizer) if after_text else ()), _anchor(tokenizer)):
        if anchor is not None:
            ids = encode_prompt(tokenizer, anchor.text + text)
            if ids[: len(anchor.ids)] == anchor.ids:
                return ids[len(anchor.ids) :]
    return encode_prompt(tokenizer, text)


def encode_prefill(
    tokenizer: Tokenizer, text: str, markers: Sequence[str] = (), *, after_text: bool = False
) -> tuple[int, ...]:
    """`continue_text`. Raises PrefillTextError if it holds a control token or one of `markers`, the texts around the
    reasoning section."""
    if not text:
        return ()
    for marker in markers:
        if marker in text:
            raise PrefillTextError(
                f"the prefill holds {marker!r}, which opens or ends the reasoning; remove it from the prefill source"
            )
    ids = continue_text(tokenizer, text, after_text=after_text)
    control = set(tokenizer.all_special_ids) - {getattr(tokenizer, "unk_token_id", None)}
    found = next((i for i in ids if i in control), None)
    if found is not None:
        raise PrefillTextError(
            f"the prefill holds the control token {tokenizer.convert_ids_to_tokens(found)!r}, which would end the "
            "reasoning; remove it from the prefill source"
        )
    return ids


def decode(tokenizer: Tokenizer, token_ids: tuple[int, ...]) -> str:
    """Text of a continuation, control tokens included: they separate reasoning from answer."""
    text: str = tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def token_id(tokenizer: Tokenizer, token: str) -> int | None:
    """Id of a token that the vocabulary holds as such, else None."""
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or (found == getattr(tokenizer, "unk_token_id", None) and token != tokenizer.unk_token):
        return None
    return int(found)


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Something to put in front of a text, so that it is not taken for the start of one."""

    text: str
    ids: tuple[int, ...]


def _anchor(tokenizer: Tokenizer) -> _Anchor | None:
    """The first control token that leaves what follows it as it is."""
    for number, token in sorted(tokenizer.added_tokens_decoder.items()):
        if token.special and not token.rstrip and not token.single_word:
            return _Anchor(str(token.content), (int(number),))
    return None


def _text_anchors(tokenizer: Tokenizer) -> Iterator[_Anchor]:
    """Texts to stand in front, for tokenizers that read what follows them otherwise than what follows a control token;
    none for others. Several, since one may join what follows it in a token."""
    control = _anchor(tokenizer)
    if control is None:
        return
    after_control = encode_prompt(tokenizer, control.text + "x")
    for text in ("\n", ">", ":", "."):
        alone, joined = encode_prompt(tokenizer, text), encode_prompt(tokenizer, text + "x")
        if alone and joined[: len(alone)] == alone and control.ids + joined[len(alone) :] != after_control:
            yield _Anchor(text, alone)
