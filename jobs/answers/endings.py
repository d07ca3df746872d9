"""Where an answer ends: end-of-turn tokens of every family, closing tags, END words, and prose behind the code."""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

from foreshock.jobs.answers.python_text import compiles, parse

END_MARK = re.compile(
    r"<[|\uff5c][^\n<>]{1,40}[|\uff5c]>|</s>|<eos>|<EOT>|<end_of_turn>|<\|?(?:end|eot)[\w▁ ]*\|?>|\[/?INST\]|\[EOS\]"
    r"|<(?:answer|solution|code|python|final|final_answer|response|pre|output|submission|details|div|p|assistant)>"
    r"|</[a-z][\w:-]*>|<(?:escape|filename|step|[a-z]+(?:_[a-z\d]+)+)>"
    r"|\[/(?:PYTHON|CODE|ANSWER|SOLUTION)\]|\[(?:END|DONE)\]|\\end\{\w+\*?\}|\]\]>"
    r"|^(?:#\+END_SRC|\{(?:code|noformat)\}|\{%[ \t]*end\w+[ \t]*%\})[ \t]*$",
    re.I | re.M,
)
END_MARK_AND_SPACE = re.compile(rf"(?<![ \t])[ \t]*+(?:{END_MARK.pattern})[ \t]*", END_MARK.flags)
_SPECIAL_TOKENS = re.compile(
    r"(?:[ \t\n▁]*(?:</?[|\uff5c_a-zA-Z][^\s<>]{0,40}>|<0x[0-9A-F]{2}>|\[\|\w{1,30}\|\]|\[/?(?:EOS|BOS|PAD|INST|SEP)\]"
    r"|\[e~\[|\]~[be]\]))+[ \t\n▁]*\Z"
)
"""Tokens at the very end, of any family: `<|im_end|>`, `<seed:eos>`, `[|endofturn|]`, `</s>`, `[e~[`."""
_GLUED_TOKEN = re.compile(
    r"(?<=\S)<((?:extra_id|file|repo|gh|jupyter|fim|issue|commit|pr|start|end|empty|unused|reserved|special)_?\w*|eos|bos|pad"
    r"|filename|reponame)>"
)
"""Tokens that Python reads as comparisons where they stand behind code: `x + 1<extra_id_1>User`."""
_LONGEST_TAIL = 1000
_END_WORD = re.compile(
    r"[ \t]*(?:(?:`{1,2}|~{1,2})?"
    r"(?:END|DONE|EOF|\[END\]|\[DONE\]|#\+END_SRC|\{(?:code|noformat)\}|---+|===+)|`{1,4}|~{1,4})[.]?[ \t]*"
)
_QUOTES_END = re.compile(r"[ \t]*(?:'''|\"\"\")[ \t]*(?:END)?[ \t]*")
_MOST_MARKS = 20
_MOST_SENTENCES = 300
_MOST_TOKENS = 200
_HEADING = re.compile(r"#{2,6} +[^\n]*|\s*")
_WORDS = re.compile(
    r"(?:[-*•]|\d+[.)])[ \t]+\S.*|[-*_=]{3,}"
    r"|(?!(?:def|class|import|from|if|elif|for|while|with|return|async|assert|print|raise|exec|del|not|yield|lambda)\b)"
    r"[a-z][\w'’,]*(?: +[\w'’,.;!?`\"-]+){2,}[.:!?]?",
    re.I,
)
"""A list's item, a rule, or at least three words in a row."""
_DEFINES = re.compile(
    r"(?:async +)?def +\w+ *\(|class +\w+ *[:(]|(?:import|from) +[\w.]+(?: +(?:import|as)\b|[ ,]*$)|@\w[\w.]*\(?"
    r"|type +\w+ *(?:\[[^\n]*\])? *="
)
_STRING = re.compile(r"'[^'\\\n]*+(?:\\.[^'\\\n]*+)*'|\"[^\"\\\n]*+(?:\\.[^\"\\\n]*+)*\"")
_MARK = re.compile(r"['\"]")
_TWO_WORDS = re.compile(r"\b([^\W\d]\w*)(?= +([^\W\d]\w*))")
_NO_WORDS = frozenset({*keyword.kwlist, *keyword.softkwlist, "print", "exec"})
_TURN = re.compile(
    r"<[|\uff5c](?!(?:begin_of_box|end_of_box|channel|message|start|constrain)[|\uff5c])[^\s<>|\uff5c]{1,40}[|\uff5c]>"
    r"|</s>|<end_of_turn>|<start_of_turn>|<eos>|<extra_id_\d+>|<step>|\[INST\]|\[\|\w+\|\]"
    r"|^(?:User|Human|USER|HUMAN):|^### (?:Instruction|User|Human)\b"
)


def ends_turn(line: str) -> bool:
    """Whether a line between two blocks ends the model's turn, or begins somebody else's."""
    return _TURN.search(line) is not None


def cut_tail(lines: Sequence[str]) -> list[str]:
    """The lines of a block that nothing closed, without the end-of-turn tokens, tags and prose behind the code.

    What parses as it is stays as it is: a token in a string literal ends nothing.
    """
    text = "\n".join(lines)
    kept = without_end_word(without_tokens(text)).split("\n")
    if compiles(unindent(kept)):  # "* item" parses, and does not compile
        return kept
    marks = [(number, match.start()) for number, line in enumerate(kept) if (match := END_MARK.search(line))]
    cuts = [[*kept[:number], kept[number][:column]] for number, column in marks[:_MOST_MARKS]]
    marked = next((cut for cut in cuts if parse(unindent(cut)) is not None), None)
    if marked is None and cuts and (marks[0][0] == len(kept) - 1 or not cuts[0][-1].strip()):
        sentence = _before_prose(kept)  # a mark may stand in a string
        return _without_quotes(cuts[0]) if sentence is None else sentence
    kept = _without_quotes(marked or kept)
    return _before_prose(kept) or kept


def _without_quotes(kept: list[str]) -> list[str]:
    """Without END words, and without quotes that close a fence of another kind."""
    kept = without_end_word("\n".join(kept)).split("\n")
    return kept[:-1] if _QUOTES_END.fullmatch(kept[-1]) and parse(unindent(kept[:-1])) is not None else kept


def _before_prose(kept: list[str]) -> list[str] | None:
    """The lines before the first sentence that leaves Python in front of it, of the first few hundred."""
    sentences = (number for number in range(1, len(kept)) if looks_like_prose(kept[number]))
    for number in islice(sentences, _MOST_SENTENCES):
        if parse(unindent(kept[:number])) is not None:
            while number > 1 and _HEADING.fullmatch(kept[number - 1]):
                number -= 1
            return kept[:number]
    return None


def _without_strings(line: str, instead: str) -> str:
    """A line with `instead` for its strings. Where one never ends, none of its kind behind it does: its quotation marks
    are all escaped."""
    kept: list[str] = []
    at, endless = 0, set[str]()
    for mark in _MARK.finditer(line):
        if mark.start() >= at and mark[0] not in endless:
            string = _STRING.match(line, mark.start())
            if string is None:
                endless.add(mark[0])
            else:
                kept += [line[at : mark.start()], instead]
                at = string.end()
    return "".join(kept) + line[at:]


def with_tokens_apart(text: str) -> str:
    """With tokens behind code on lines of their own, unless they stand in a string or are comparisons of names."""
    names = {match[1] for _, match in zip(range(_MOST_MARKS), _GLUED_TOKEN.finditer(text), strict=False)}
    used = {name for name in names if re.search(rf"(?<![<\w]){name}(?![>\w])", text)}

    def apart(match: re.Match[str]) -> str:
        line = max(
            text.rfind("\n", max(0, match.start() - _LONGEST_TAIL), match.start()) + 1, match.start() - _LONGEST_TAIL
        )
        quoted = _MARK.search(_without_strings(text[line : match.start()], "")) is not None
        return match[0] if quoted or match[1] in used else f"\n{match[0]}\n"

    return _GLUED_TOKEN.sub(apart, text, count=_MOST_TOKENS) if names else text


def without_tokens(text: str) -> str:
    """Without special tokens at its end, unless it is Python with them; `[EOS]` would be an index."""
    match = _SPECIAL_TOKENS.search(text, max(0, len(text) - _LONGEST_TAIL))
    if match is None:
        return text
    kept = text[: match.start()]
    tree = None if "[" in match[0] else parse(unindent(text.split("\n")))
    if tree is None:
        return kept
    without = parse(unindent(kept.split("\n")))  # the same where it stands in a comment
    try:
        return kept if without is not None and ast.dump(without) == ast.dump(tree) else text
    except RecursionError:  # nested too deep to compare
        return kept


def without_end_word(code: str) -> str:
    """Without last lines that only say END or DONE: valid Python, and no part of a program."""
    lines = code.rstrip().split("\n")
    while len(lines) > 1 and _END_WORD.fullmatch(lines[-1]):
        lines.pop()
    return "\n".join(lines)


@lru_cache(maxsize=4096)
def looks_like_prose(line: str) -> bool:
    """A sentence rather than code: it starts at the margin with words, and holds no sign that only code has."""
    if not line or line[0] in " \t#@":
        return False
    if re.match(r"[^\W\d_a-zA-Z]", line) or _WORDS.fullmatch(line):  # a sentence, unless it is Python
        return not compiles(line)
    if _reads_as_words(line):
        return True
    return re.match(r"(?:\*\*|#+ |[-*] |\d+\. )?[A-Z][\w'’]*(?:[ ,:]|$)", line) is not None and not re.match(
        r"[A-Z]\w*\s*(?:=|\(|\.|\[|:\s*\w+\s*=)", line
    )


def _reads_as_words(line: str) -> bool:
    """Whether a line that is no Python has what only a sentence has: its stop, two names in a row, a foreign sign."""
    if (
        _DEFINES.match(line)
        or '"""' in line
        or "'''" in line
        or parse(line) is not None
        or line.rstrip().endswith((":", "\\", ",", "(", "[", "{"))
    ):
        return False
    plain = _without_strings(line.split("#")[0], "''")
    return (
        re.search(r"[.!?\u3002\uff01\uff1f][*_)\"']*\s*\Z", plain) is not None
        or re.match(r"[^\x00-\x7f\w]|\*\w", plain) is not None
        or any(not {match[1], match[2]} & _NO_WORDS for match in _TWO_WORDS.finditer(plain))
    )


def unindent(lines: Sequence[str]) -> str:
    """The lines without the first one's indentation (a block in a list), as far as each has it.

    Where that leaves no Python and the others as they are do, only the first line is indented wrongly.
    """
    at = next((number for number, line in enumerate(lines) if line.strip()), 0)
    first = lines[at] if lines else ""
    depth = len(first) - len(first.lstrip(" \t"))
    if depth == 0:
        return "\n".join(lines)
    pattern = re.compile(rf"^[ \t]{{0,{depth}}}")
    text = "\n".join(pattern.sub("", line) for line in lines)
    if parse(text) is not None:
        return text
    alone = "\n".join([*lines[:at], first.lstrip(" \t"), *lines[at + 1 :]])
    return alone if parse(alone) is not None else text


def trimmed(code: str) -> str:
    """Without blank lines at either end."""
    lines = code.split("\n")
    kept = [number for number, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[kept[0] : kept[-1] + 1]) if kept else ""
