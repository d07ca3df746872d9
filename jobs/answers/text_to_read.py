"""Where to look for code: in the answer, or in a forced beginning and the answer as one text."""

from __future__ import annotations

import re

from foreshock.jobs.answers.endings import looks_like_prose
from foreshock.jobs.answers.fences import fenced_pieces
from foreshock.jobs.answers.prose import bare_pieces
from foreshock.jobs.answers.python_text import is_program
from foreshock.jobs.answers.undress import plain_lines

_OPENING_TAG = re.compile(
    r"<(answer|final_answer|solution|submission|code|pre|python)>|\[(PYTHON|CODE|ANSWER|SOLUTION)\]"
    r"|\\begin\{(verbatim|lstlisting|minted)\}"
)
_QUOTED = re.compile(r"(?:[ \t]{0,3}>[ \t]?+)+")
_DEFINITION = re.compile(r"(?:<\w+>|\[[A-Z]+\]|\\boxed\{)?(?:async +)?(?:def|class)\b")
_INPUT = re.compile(r"[ \t]*(?:>>>|\.\.\.:?|In \[\d+\]:)(?:[ ]|$)")
_FINAL = "<|channel|>final<|message|>"
_FINAL_END = re.compile(r"<\|(?:end|return)\|>")
_REASONING_END = re.compile(r"\s*(?:<[/|\uff5c][^\n<>]{1,40}>|\[/\w+\]|\u25c1/?\w+\u25b7)")
_OBJECT = re.compile(r"[\[{](?=\s*(?:\{\s*)?\")")
_JSON = re.compile(
    r"(?:\"[^\"\\]*+(?:\\.[^\"\\]*+)*\"|[\[\]{},:\s]|-?\d[\d.eE+-]*+|true\b|false\b|null\b)*"
    r"(?:\"[^\"\\]*+(?:\\.[^\"\\]*+)*\\?)?\Z",
    re.S,
)
_STRING = re.compile(r"\"[^\"\\]*+(?:\\.[^\"\\]*+)*(?:\"|\\?\Z)", re.S)
_MOST_OBJECTS = 20
_SPAN = re.compile(r"(?<!`)`(?!`)")


def text_to_read(prefill: str, response: str, reasoning: str, answer: str | None) -> str | None:
    """Where to look for code: the answer; None if there is none.

    prefill: what was forced; response: what was sampled after it, of which `reasoning` and `answer` are parts. Where
    no marker parts them, the prefill opens the very message that holds the answer; if it ends inside code, the two are
    read as one text.
    """
    if answer is None or reasoning + answer != response:
        return answer
    if (
        ends_inside_fence(prefill)
        or _ends_inside_definition(prefill, response)
        or _ends_inside_session(prefill, response)
        or _ends_inside_json(prefill)
        or _share_a_program(prefill, response)
    ):
        return prefill + response
    span = _open_span(prefill, response)
    if span is not None:
        return prefill[span:] + response
    tag = next((match for match in reversed(list(_OPENING_TAG.finditer(prefill)))), None)
    return prefill[tag.start() :] + response if tag and not _closes(tag, prefill[tag.end() :]) else answer


def stored_text_to_read(response: str, reasoning: str, prefill: str) -> str | None:
    """`text_to_read` of a row, from what it stores: its `response`, `reasoning` and `prefill_reasoning`.

    The answer is what follows the reasoning and the marker that closes it, or the last final message of a response in
    channels; None if the reasoning takes up the whole response.
    """
    if _FINAL in response:
        return _FINAL_END.split(response.rpartition(_FINAL)[2])[0]
    own = reasoning.removeprefix(prefill)
    if not own or not response.startswith(own):
        return text_to_read(prefill, response, "", response)
    rest = response[len(own) :]
    if not rest:
        return None
    marker = _REASONING_END.match(rest)
    return rest[marker.end() :] if marker else text_to_read(prefill, response, own, rest)


def ends_inside_fence(text: str) -> bool:
    """Whether a code block is open where the text ends."""
    last = text.rpartition("\n")[2]
    quote = _QUOTED.match(last)
    more = "#" if quote and quote.end() == len(last) else f"\n{quote[0] if quote else ''}#"
    blocks = list(fenced_pieces(plain_lines(text + more).split("\n")))
    return bool(blocks) and not blocks[-1][2].closed


def _ends_inside_json(text: str) -> bool:
    """Whether an object or a list of JSON is open where the text ends."""
    for start in reversed([match.start() for match in _OBJECT.finditer(text)][-_MOST_OBJECTS:]):
        if _JSON.match(text, start):
            signs = _STRING.sub("", text[start:])
            if signs.count("{") + signs.count("[") > signs.count("}") + signs.count("]"):
                return True
    return False


def _open_span(text: str, behind: str) -> int | None:
    """Where an inline span begins that the text's last line leaves open and `behind` closes; None: nowhere."""
    line = text.rpartition("\n")[2]
    marks = [match.start() for match in _SPAN.finditer(line)]
    if len(marks) % 2 == 0 or not _SPAN.search(behind.partition("\n")[0]):
        return None
    return len(text) - len(line) + marks[-1]


def _ends_inside_definition(text: str, behind: str) -> bool:
    """Whether `text` ends inside a function or class that stands in prose, so that `behind` goes on with it."""
    at_margin = [line for line in plain_lines(text).split("\n") if line[:1].strip()]
    goes_on = text[-1:] != "\n" or behind[:1] in (" ", "\t")
    return goes_on and bool(at_margin) and _DEFINITION.match(at_margin[-1]) is not None


def _ends_inside_session(text: str, behind: str) -> bool:
    """Whether `text` ends in the input of an interactive session that `behind` goes on with."""
    last = text.rstrip("\n").rpartition("\n")[2]
    return _INPUT.match(last) is not None and (text[-1:] != "\n" or _INPUT.match(behind.lstrip("\n")) is not None)


def _share_a_program(text: str, behind: str) -> bool:
    """Whether a program without a fence begins in `text` and goes on in `behind`: it stands in neither alone."""
    above, below = text.rstrip("\n"), behind.lstrip("\n")
    last, first = above.rpartition("\n")[2], below.partition("\n")[0]
    border = [last, first] if (above, below) != (text, behind) else [last + first]
    if not text.strip() or any(looks_like_prose(line) for line in border):
        return False
    parts = (_stripped(text), _stripped(behind))
    programs = (piece.code for piece in bare_pieces(plain_lines(text + behind)) if is_program(piece.code))
    return any(not any(_stripped(program) in part for part in parts) for program in programs)


def _stripped(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _closes(tag: re.Match[str], text: str) -> bool:
    return any(end in text for end in (f"</{tag[1]}>", f"[/{tag[2]}]", f"\\end{{{tag[3]}}}"))
