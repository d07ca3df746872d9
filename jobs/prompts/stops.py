"""What ends a continuation: the tokens that the model's own files name, and those that its answered turns end with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock.jobs.model_files.adapters import base_of, is_adapter
from foreshock.jobs.model_files.fingerprint import CheckpointError, read_config
from foreshock.jobs.prompts.base import LateStop
from foreshock.jobs.prompts.markers import control_tokens, find_controls
from foreshock.jobs.prompts.section import Section
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, encode_prompt, token_id
from foreshock.jobs.prompts.turns import Turns


@dataclass(frozen=True, slots=True)
class Stops:
    """token_ids end a continuation wherever they come; `late` ones only in the answer, since the reasoning section ends
    with them too. trailer: what the model writes between its answer and the end, without the whitespace around it."""

    token_ids: tuple[int, ...]
    late: tuple[LateStop, ...] = ()
    trailer: str = ""


def model_ends(path: Path) -> tuple[int, ...]:
    """The end-of-sequence ids that `generate()` would use for a checkpoint: of generation_config.json, else of
    config.json. An adapter's own files come before its base's. Raises CheckpointError for files that make no sense."""
    folders = [path]
    if is_adapter(path):
        folders.append(base_of(path))
    for folder in folders:
        for name in ("generation_config.json", "config.json"):
            file = folder / name
            if file.is_file():
                found = tuple(_ids(file, read_config(file)))
                if found:
                    return found
    return ()


def _ids(file: Path, config: Mapping[str, Any]) -> Iterator[int]:
    text = config.get("text_config")
    given = config.get("eos_token_id")
    if given is None and isinstance(text, Mapping):
        given = text.get("eos_token_id")
    for number in given if isinstance(given, list) else [given]:
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise CheckpointError(f"{file}: eos_token_id is {given!r}; valid: a token id, or a list of them")
        yield number


def derive_stops(
    tokenizer: Tokenizer,
    settings: PromptSettings,
    section: Section | None,
    ends: Iterable[int] = (),
    system: str | None = None,
) -> Stops:
    """The union of the tokenizer's end token, `ends` (those of the model's files), the run's own, and what an answered
    turn ends with in every template of the tokenizer."""
    named = [tokenizer.eos_token_id, *ends]
    known = tuple(dict.fromkeys(int(i) for i in named if i is not None))
    found: list[int] = []
    trailer = ""
    for name in _template_names(tokenizer):
        turn = Turns(tokenizer, settings, system, name).plain()
        if turn is None:
            continue
        last, earlier = turn.after_last, turn.after_earlier or ""
        place, number = _known_end(tokenizer, last, known) or _shared_end(tokenizer, last, earlier)
        trailer = trailer or last[:place].strip()
        found += [number] if number is not None else []
        if not _ends_alike(tokenizer, last, earlier, place):
            _, number = _known_end(tokenizer, earlier, known) or _first_end(tokenizer, earlier, last[:place])
            found += [number] if number is not None else []
    return _sorted_out(tokenizer, [*known, *found], settings.stop_token_ids, section, trailer)


def _sorted_out(
    tokenizer: Tokenizer, ids: list[int], wanted: tuple[int, ...], section: Section | None, trailer: str
) -> Stops:
    """Tokens that the model also writes between reasoning and answer count in the answer only. What the run itself
    names ends a continuation wherever it comes."""
    between = section.closing + section.answer_header if section is not None else ""
    inner = {token_id(tokenizer, token) for _, token in find_controls(between, control_tokens(tokenizer))}
    unconditional = dict.fromkeys([*(i for i in ids if i not in inner), *wanted])
    late = tuple(dict.fromkeys(i for i in ids if i in inner and i not in wanted))
    if not late or section is None:
        return Stops(tuple(unconditional), (), trailer)
    header = encode_prompt(tokenizer, section.answer_header)
    opening = header if header else encode_prompt(tokenizer, section.closing)
    return Stops(tuple(unconditional), (LateStop(opening, late),), trailer)


def _template_names(tokenizer: Tokenizer) -> list[str | None]:
    """None is the default; the others by name."""
    template = tokenizer.chat_template
    if not isinstance(template, dict):
        return [None] if template else []
    return [None, *(name for name in template if name != "default")]


_End = tuple[int, int | None]
"""Place and id of the token with which a turn ends."""


def _marks(tokenizer: Tokenizer, after: str) -> list[tuple[int, str]]:
    return find_controls(after, control_tokens(tokenizer))


def _known_end(tokenizer: Tokenizer, after: str, known: tuple[int, ...]) -> _End | None:
    marks = [(place, token_id(tokenizer, token)) for place, token in _marks(tokenizer, after)]
    return next(((place, number) for place, number in marks if number in known), None)


def _shared_end(tokenizer: Tokenizer, last: str, earlier: str) -> _End:
    """The token that ends the conversation and that comes before a further question, too: a turn may close several
    sections before it. Else the first one."""
    marks = _marks(tokenizer, last)
    if not marks:
        return len(last), None
    place, token = marks[-1]
    end = place + len(token)
    if last[end:].strip() or not earlier.startswith(last[:end]):
        place, token = marks[0]
    return place, token_id(tokenizer, token)


def _ends_alike(tokenizer: Tokenizer, last: str, earlier: str, place: int) -> bool:
    """Whether an earlier turn ends as the last one does."""
    token = next((token for at, token in _marks(tokenizer, last) if at == place), None)
    return token is not None and earlier.startswith(last[:place] + token)


def _first_end(tokenizer: Tokenizer, earlier: str, trailer: str) -> _End:
    """The first token, with nothing before it but what ends an answer at the end of the conversation, too (`trailer`):
    anything else may be the further question's, and so may the token."""
    marks = _marks(tokenizer, earlier)
    if not marks or earlier[: marks[0][0]].strip() not in ("", trailer.strip()):
        return len(earlier), None
    return marks[0][0], token_id(tokenizer, marks[0][1])
