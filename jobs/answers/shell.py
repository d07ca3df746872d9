"""Programs that a shell block writes or runs: here-documents, `printf`, `echo`, `python -c`."""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from foreshock.jobs.answers.python_text import is_program, parse

_HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w++)\1")
_HERE_STRING = re.compile(r"@(['\"])\n")
_WRITES = re.compile(r"\b(?:printf|echo|python[\d.]*[ \t]+-c)\b")
_ESCAPE = re.compile(r"\\(?:([abefnrtv\\'\"?])|x([\da-fA-F]{1,2})|0?([0-7]{1,3}))")
_ESCAPES = dict(zip("abefnrtv", "\a\b\x1b\f\n\r\t\v", strict=True))
_DIRECTIVE = re.compile(r"%(?:%|[-\d.]*[a-z])")
_MOST_CHARS = 50_000
"""Longer texts are not taken apart: the shell's lexer is slow, and no answer types that much into `echo`."""


def here_documents(body: str) -> list[str]:
    """The Python that here-documents of the block hold, each by itself."""
    return [text for text in (*_documents(body.split("\n")), *_strings(body)) if parse(text) is not None]


def _documents(lines: Sequence[str]) -> Iterator[str]:
    """The texts between `<<WORD` and the line that is WORD alone, of one line at least."""
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        places.setdefault(line.strip(" \t"), []).append(number)
    at = 0
    while at < len(lines):
        start, at = at + 1, at + 1
        for word in (match[2] for match in _HERE_DOCUMENT.finditer(lines[start - 1])):
            ends = places.get(word, [])
            place = bisect_right(ends, start)
            if place < len(ends):
                yield "\n".join(lines[start : ends[place]])
                at = ends[place] + 1
                break


def _strings(body: str) -> Iterator[str]:
    """The texts of PowerShell's here-strings, `@'` to `'@`."""
    at, open_for_good = 0, set[str]()
    while (start := _HERE_STRING.search(body, at)) is not None:
        at = start.end()
        end = -1 if start[1] in open_for_good else body.find(f"\n{start[1]}@", at)
        if end < 0:
            open_for_good.add(start[1])
        else:
            yield body[at:end]
            at = end + 3


def written_by_commands(body: str) -> list[str]:
    """The programs that `printf` and `echo` write, by file, and those that `python -c` runs; none in other text."""
    if not _WRITES.search(body) or len(body) > _MOST_CHARS or parse(body) is not None:
        return []
    files: dict[str | int, str] = {}
    for number, command in enumerate(_commands(body)):
        text, target, appends = _output(command)
        if text is not None:
            file = number if target is None else target
            files[file] = (files.get(file, "") if appends else "") + text
    return [text.strip("\n") for text in files.values() if is_program(text)]


def _commands(body: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(body, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace = " \t\r"
    lexer.wordchars += ":=+,@[]{}!^$%"
    command: list[str] = []
    try:
        for token in lexer:
            if token.strip("();|&\n"):
                command.append(token)
            elif "|" in token and "||" not in token:
                command.append("|")
            else:
                yield command
                command = []
    except ValueError:  # a quotation that never ends: that command was cut off
        return
    yield command


def _output(command: Sequence[str]) -> tuple[str | None, str | None, bool]:
    """(text that a command writes, None for other commands; the file or command that gets it, None where it runs the
    text itself; whether it appends)."""
    end = next((i for i, word in enumerate(command) if word in (">", ">>", "|")), len(command))
    words, behind = list(command[:end]), list(command[end + 1 :])
    if words and words[0] in ("$", "%", ">"):  # a prompt
        words = words[1:]
    target = " ".join(behind)
    appends = end < len(command) and (command[end] == ">>" or "-a" in behind)
    if len(words) < 2:
        return None, target, appends
    name, *arguments = words
    if re.fullmatch(r"python[\d.]*", name) and "-c" in arguments[:-1]:
        code = arguments[arguments.index("-c") + 1]
        return _unescaped(code[1:]) if code.startswith("$") else code, None, False
    if name == "printf":
        return _formatted(arguments), target, appends
    if name != "echo":
        return None, target, appends
    while arguments and re.fullmatch(r"-[neE]+", arguments[0]):
        arguments = arguments[1:]
    text = " ".join(arguments)
    plain = not text.startswith("$") and "-e" not in words[1:3] and "-ne" not in words[1:3] and parse(text) is not None
    return (text if plain or "\\n" not in text else _unescaped(text.removeprefix("$"))) + "\n", target, appends


def _formatted(arguments: Sequence[str]) -> str:
    """What `printf` writes: its format again and again until the arguments are used up."""
    pattern, *waiting = (one.removeprefix("$") for one in arguments)
    pieces = re.split(f"({_DIRECTIVE.pattern})", pattern)  # text and directives in turns
    texts, directives = list(map(_unescaped, pieces[::2])), pieces[1::2]

    def filled(directive: str) -> str:
        if directive == "%%":
            return "%"
        value = waiting.pop(0) if waiting else ""
        return _unescaped(value) if directive == "%b" else value

    lines: list[str] = []
    while not lines or (waiting and any(directive != "%%" for directive in directives)):
        lines += [texts[0], *(f"{filled(one)}{text}" for one, text in zip(directives, texts[1:], strict=True))]
    return "".join(lines)


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match[1]:
            return _ESCAPES.get(match[1], match[1])
        return chr(int(match[2], 16) if match[2] else int(match[3], 8))

    return _ESCAPE.sub(one, text)
