"""Programs that an answer gives as a change to a file: diffs, patches, merge conflicts."""

from __future__ import annotations

import re

from foreshock.jobs.answers.python_text import parse

_HEAD = re.compile(r"(?:diff |index |@@|--- |\+\+\+ |new file|deleted file|similarity |rename |\\ No newline|\*\*\* )")
_FILE = re.compile(r"^(?=diff --git |\*\*\* (?:Add|Update) File:|Index: |--- [^\n]*\n\+\+\+ )", re.M)
_STARTS = re.compile(r"^(?:\*\*\* Begin Patch|diff --git |--- (?:a/|/dev/null)|@@ )", re.M)
_CONFLICT = re.compile(r"^<{7}[^\n]*\n(.*?)^={7}[ \t]*\n(.*?)^>{7}[^\n]*(?:\n|\Z)", re.M | re.S)
_MOST_CONFLICTS = 50


def patched(text: str) -> list[str]:
    """The new side of each file of a diff, where that is a program of its own; none for fragments."""
    return [new for part in _FILE.split(text) if (new := _new_side(part)) is not None]


def unfenced_patch(answer: str) -> list[str]:
    """The same of a patch that stands in an answer without a fence."""
    start = _STARTS.search(answer)
    if start is None:
        return []
    text = re.sub(
        r"\n-- \n.*\Z", "", answer[start.start() :].split("*** End Patch")[0], flags=re.S
    )  # a mail's signature
    return patched(re.sub(r"(?:\n|^)[ \t]*[`~]{3,}[^\n]*\Z", "", text.rstrip()))


def _new_side(text: str) -> str | None:
    lines = [line for line in text.split("\n") if not _HEAD.match(line)]
    if not any(line.startswith("+") for line in lines):
        return None
    kept = [line for line in lines if not line.startswith("-")]
    for signs in (1, 2):  # "+def f" or "+ def f"
        if any(line[:signs].strip(" +") for line in kept[1:]):
            continue
        first = kept[0] if kept[0][:signs].strip(" +") else kept[0][signs:]  # a block's first line has lost its space
        new = "\n".join([first, *(line[signs:] for line in kept[1:])])
        if new.strip() and parse(new) is not None:
            return new
    return None


def added(code: str) -> str:
    """The new side of a block whose every line has a sign of a diff, else the block."""
    lines = [line for line in code.split("\n") if line.strip()]
    if not any(line.startswith("+") for line in lines) or any(
        line[0] not in "+- " and not _HEAD.match(line) for line in lines
    ):
        return code
    return next(iter(patched(code)), code)


def merged(code: str) -> str:
    """With the later side of every conflict or search-and-replace."""
    return _CONFLICT.sub(lambda match: match[2], code) if code.count("<<<<<<<") <= _MOST_CONFLICTS else code
