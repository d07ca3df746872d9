"""Control tokens in rendered text, and the marker that closes what another one opens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from foreshock.jobs.prompts.tokenizer import Tokenizer

TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
REASONING_WORDS = "think|thought|reason"
"""One of them is in every reasoning marker that models have; a new one goes here."""
_ABOUT_REASONING = re.compile(REASONING_WORDS, re.I)


def control_tokens(tokenizer: Tokenizer) -> frozenset[str]:
    """Texts of the tokens added to the vocabulary, special or not. Those that are only whitespace are left out: they
    shorten code, and end nothing."""
    added = (str(token.content) for token in tokenizer.added_tokens_decoder.values())
    return frozenset(text for text in added if text.strip())


def find_controls(text: str, controls: frozenset[str]) -> list[tuple[int, str]]:
    """(position, token) of every control token in `text`, longest first where several begin."""
    if not controls:
        return []
    pattern = "|".join(re.escape(token) for token in sorted(controls, key=lambda token: (-len(token), token)))
    return [(match.start(), match[0]) for match in re.finditer(pattern, text)]


def last_marker(text: str, controls: frozenset[str]) -> str | None:
    """The control token or tag that `text` ends with, whitespace after it apart."""
    body = text.rstrip()
    found = find_controls(body, controls)
    if found and found[-1][0] + len(found[-1][1]) == len(body):
        return found[-1][1]
    tags = list(TAG.finditer(body))
    return tags[-1][0] if tags and tags[-1].end() == len(body) else None


def mirrored(marker: str) -> Iterator[str]:
    """What may close `marker`, by the ways in which such pairs are written."""
    match = re.fullmatch(r"(?P<left>[<\[]\|?)(?P<name>.+?)(?P<right>\|?[>\]])", marker)
    if match is None:
        return
    left, name, right = match["left"], match["name"], match["right"]
    yield f"{left}/{name}{right}"
    for opens, closes in (("START", "END"), ("start", "end"), ("BEGIN", "END"), ("begin", "end")):
        if opens in name:
            yield f"{left}{name.replace(opens, closes)}{right}"
    if left == "<|" and right == ">":
        yield f"<{name}|>"
    yield f"{left}end_{name}{right}"


def closing_of(marker: str, tokenizer: Tokenizer, sources: str) -> str | None:
    """The one text that closes `marker` and is a token of the vocabulary, or written in the templates' `sources`."""
    controls = control_tokens(tokenizer)
    found = list(dict.fromkeys(text for text in mirrored(marker) if text in controls or text in sources))
    return found[0] if found else None


def tag_closing(marker: str) -> str | None:
    """What closes a plain tag by the syntax of tags, `<reason>` or `[REASON]`; None for tokens of another form."""
    return next(mirrored(marker), None) if re.fullmatch(r"<\w[^<>\s|]*>|\[\w[^\[\]\s]*\]", marker) else None


def is_about_reasoning(marker: str) -> bool:
    """Whether a marker's name speaks of thought: other sections (answers, tools) are written in the same way."""
    return _ABOUT_REASONING.search(marker) is not None


def reasoning_pairs(text: str, tokenizer: Tokenizer, sources: str) -> dict[str, str]:
    """Opening and closing markers about reasoning among the vocabulary's control tokens and the tags in `text`; a
    closing one must be a control token too, or written in the templates' `sources`."""
    marks = [*control_tokens(tokenizer), *(match[0] for match in TAG.finditer(text))]
    found = {mark: closing_of(mark, tokenizer, sources) for mark in marks if is_about_reasoning(mark)}
    return {mark: closing for mark, closing in sorted(found.items()) if closing is not None}


def named_pairs(text: str, tokenizer: Tokenizer, sources: str) -> list[tuple[str, str]]:
    """(opening, closing) of every reasoning section that `text` holds or tells the model to write, in its order."""
    pairs = [
        (opening, closing)
        for opening, closing in reasoning_pairs(text, tokenizer, sources).items()
        if 0 <= text.rfind(opening) < text.rfind(closing)
    ]
    return sorted(pairs, key=lambda pair: text.rfind(pair[0]))
