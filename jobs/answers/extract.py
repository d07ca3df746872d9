"""The code in a model's final answer, and whether there was any.

A careful reader's choice: the last complete version of the function wins, so neither a usage example nor a block that
was cut off is taken for the solution; blocks that it needs (imports, helpers) belong to it. Reasoning is split off
beforehand (`PromptFormat.parse`), so code drafted there is never taken. Nothing is executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foreshock.jobs.answers.endings import (
    END_MARK_AND_SPACE,
    ends_turn,
    with_tokens_apart,
    without_end_word,
    without_tokens,
)
from foreshock.jobs.answers.fences import Label, Piece, fenced_pieces, without_cut_end
from foreshock.jobs.answers.noise import without_headings, without_noise
from foreshock.jobs.answers.patches import unfenced_patch
from foreshock.jobs.answers.prose import bare_pieces, boxed_pieces, span_line_pieces, span_pieces
from foreshock.jobs.answers.python_text import (
    bound_names,
    compiles,
    defines,
    imports_as,
    imports_everything,
    is_elided,
    is_program,
    is_unwritten,
    mentions_definition,
    needed_names,
    only_sets_attributes_of,
    parse,
    provided_names,
    sets_global,
)
from foreshock.jobs.answers.quoted import is_call, is_notebook, quoted_texts, written_texts
from foreshock.jobs.answers.rejected import is_rejected
from foreshock.jobs.answers.undress import (
    PROMPT,
    fenced_cells,
    holds_entities,
    numbered_programs,
    plain_lines,
    transcript_code,
    undressed,
    without_markup,
)
from foreshock.jobs.records.verdicts import CodeStatus

_ANSWER_TAG = re.compile(r"<(answer|final_answer|solution|submission)>(.*?)(?:</\1>|\Z)", re.I | re.S)
_REASONING = re.compile(
    r"\A\s*(?:<((?:\w+[:_])?(?:think|thinking|thought|reasoning))>.*?(?:</\1>|\Z)"
    r"|<\|(?:START|begin_of)_(thinking|thought|reasoning)\|>.*?(?:<\|(?:END|end_of)_\2\|>|\Z)"
    r"|\[THINK\].*?(?:\[/THINK\]|\Z)|\u25c1think\u25b7.*?(?:\u25c1/think\u25b7|\Z))",
    re.I | re.S,
)
_ANALYSIS = re.compile(
    r"\A\s*(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)\b.*?<\|channel\|>final<\|message\|>", re.S
)
_ANALYSIS_MESSAGE = re.compile(r"<\|channel\|>analysis<\|message\|>(?:(?!<\|channel\|>).)*?<\|end\|>", re.S)
"""Reasoning of a response in channels that ends in a tool call instead of a final message."""
_TOOL_CALL = re.compile(r"<[|\uff5c]tool[_\u2581]calls?[_\u2581\w]*[|\uff5c]>")
_FIRST_WORD = re.compile(
    r"\A\s*(?:(?:python3?|py):?[ \t]+(?=(?:async )?def \w+\(|class \w|import \w|from \w)"
    r"|(?:python3?|py)(?:Copy|Edit|Run)+(?: ?code)?(?=(?:async )?def \w+\(|class \w|import \w|from \w|@\w)"
    r"|(?:(?:python3?|py)(?:[ \t]*\n[ \t]*(?:Copy|Edit|Copy code))*"
    r"|\[(?:BEGIN|PYTHON|CODE|ANSWER|SOLUTION)\]|#\+BEGIN_SRC[^\n]*|\{(?:code|noformat)[^}\n]*\})[ \t]*\n)",
    re.I,
)
"""A label without its fence, or an opening tag that is valid Python."""


_END_OF_OTHER = re.compile(r"^end\b[ \t]*;?[ \t]*$", re.M)
"""How Ruby, Lua and Julia end a function."""
_OTHER_TURN = re.compile(
    r"^(?:#{2,4} (?:Instruction|User|Human|Input|Question|Problem|Exercise|Task)\b"
    r"|(?:User|Human|USER|HUMAN|Question|Q):)",
    re.M,
)
_DEFINITION = re.compile(r"^[ \t]*(?:async +)?(?:def|class)\b", re.M)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The code of an answer and its status; `code` is None exactly when there is none."""

    code: str | None
    status: CodeStatus

    def ended_by(self, finish_reason: str | None) -> Extraction:
        """The same, knowing why generation ended: cut at the token limit, an unfinished program is `truncated`."""
        unfinished = self.status in (CodeStatus.NO_CODE, CodeStatus.FUNCTION_MISSING, CodeStatus.DOES_NOT_COMPILE)
        return Extraction(self.code, CodeStatus.TRUNCATED) if finish_reason == "length" and unfinished else self


def extract(answer: str | None, function_name: str | None = None) -> Extraction:
    """The submission in `answer` and its status. `answer` None: the reasoning never ended."""
    if answer is None:
        return Extraction(None, CodeStatus.NO_ANSWER)
    code = _find(plain_lines(answer), function_name)
    return Extraction(code, CodeStatus.NO_CODE if code is None else status_of(code, function_name))


def status_of(code: str, function_name: str | None = None) -> CodeStatus:
    """What Python says of a submission."""
    if not compiles(code):
        return CodeStatus.DOES_NOT_COMPILE
    there = function_name is None or function_name in provided_names(code) or sets_global(code, function_name)
    return CodeStatus.OK if there else CodeStatus.FUNCTION_MISSING


def extract_code(answer: str | None, function_name: str | None = None) -> str | None:
    """The submission in `answer`, or None when there is no code."""
    return extract(answer, function_name).code


def _find(answer: str, name: str | None) -> str | None:
    """Try readings of the answer from the plainest to the most generous; the first that defines the function wins."""
    reasoning = _REASONING.match(answer)
    if reasoning and name is not None:
        answer = answer[reasoning.end() :]
    answer = _ANALYSIS_MESSAGE.sub("", _ANALYSIS.sub("", answer))
    answer = with_tokens_apart(fenced_cells(answer))
    kept = without_tokens(answer)
    if "</" not in answer[len(kept) :].replace("</s>", ""):  # tags are read with what they enclose
        answer = kept
    if not answer.strip():
        return None
    blocks = list(fenced_pieces(answer.split("\n")))
    if name is not None and blocks and _is_whole(answer, name):
        return answer.strip("\n")
    fenced = _this_turn(answer, blocks)
    if name is None:
        return _unnamed(answer, fenced)
    turn = blocks[: len(fenced)]
    fenced = _without_rejected(answer, turn, name)
    fenced = [without_cut_end(piece, name) for piece in fenced]
    for tag in reversed(list(_ANSWER_TAG.finditer(answer))) if fenced else ():
        inner = [piece for _, _, piece in fenced_pieces(tag[2].split("\n"))] or bare_pieces(tag[2])
        found = _choose(inner, name)
        if found is not None and parse(found) is not None:
            return found
    pieces = [*fenced, *_bare_behind(answer, turn, name)]
    pieces = [*_bare_before(answer, blocks, pieces, name), *pieces]
    found = _choose(_without_cut_copy(pieces), name)
    if found is not None:
        return found
    outside = _first_turn(_without_others(answer, blocks), name)
    for pieces in _in_data(answer, blocks, name):
        found = _choose(pieces, name)
        if found is not None:
            return found
    plain = without_markup(outside)
    for text in (outside,) if plain == outside else (outside, plain):
        for pieces in _generous(text, name):
            found = _choose(pieces, name)
            if found is not None and (text == plain or (parse(found) is not None and not holds_entities(found))):
                return found
    return _fallback(outside, fenced, name)


def _is_whole(answer: str, name: str) -> bool:
    """Whether the answer is the program and nothing else, so that a fence in it stands in a string."""
    tree = parse(answer)
    signs = tree is None or any(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.UnaryOp) for node in tree.body
    )
    return (
        not signs and defines(answer, name) and without_noise(answer) == answer and answer == without_end_word(answer)
    )


def _in_data(answer: str, blocks: Sequence[tuple[int, int, Piece]], name: str) -> Iterable[list[Piece]]:
    """Readings of blocks that hold the program as text: a program that writes a file, the arguments of a tool call."""
    tokens = _TOOL_CALL.search(answer) is not None
    for _, _, piece in reversed(blocks):
        called = tokens or is_call(piece.code) or is_notebook(piece.code)
        for text in (*(quoted_texts(piece.code) if called and piece.foreign else ()), *written_texts(piece.code)):
            fenced = [inner for _, _, inner in fenced_pieces(plain_lines(text).split("\n"))]
            whole = text.strip("\n")
            if any(_rank(inner, name) for inner in fenced):
                yield fenced
            elif is_program(whole) and defines(whole, name):
                yield [Piece(whole, Label.NONE, True)]


def _without_others(answer: str, blocks: Sequence[tuple[int, int, Piece]]) -> str:
    """The answer without blocks of another language: what is inside those was read, and is no Python."""
    lines = answer.split("\n")
    others = {
        number
        for start, end, piece in blocks
        if piece.label is Label.OTHER
        for number in range(start, min(end, len(lines)))
    }
    return "\n".join("" if number in others else line for number, line in enumerate(lines))


def _this_turn(answer: str, blocks: Sequence[tuple[int, int, Piece]]) -> list[Piece]:
    """The pieces before the model went on into a further turn: the first end of turn behind a block ends the answer."""
    lines = answer.split("\n")
    pieces: list[Piece] = []
    behind = 0
    for start, end, piece in blocks:
        prose = piece.label is Label.NONE and not is_program(piece.code) and not _DEFINITION.search(piece.code)
        if pieces and any(ends_turn(line) for line in lines[max(behind - 1, 0) : end if prose else start]):
            break
        pieces.append(piece)
        behind = end
    return pieces


def _first_turn(answer: str, name: str) -> str:
    """An answer without fences before it went on with a turn of somebody else, where the function stands in front."""
    start = 0
    for match in _OTHER_TURN.finditer(answer):
        spoken, start = answer[start : match.start()], match.start()
        if mentions_definition(spoken, name):
            head = answer[:start]
            whole = any((_rank(piece, name) or 0) >= _WHOLE for piece in bare_pieces(head))
            return head if whole else answer
    return answer


def _without_rejected(answer: str, blocks: Sequence[tuple[int, int, Piece]], name: str) -> list[Piece]:
    """The pieces without those that the answer itself says are wrong, where another one is whole."""
    lines = answer.split("\n")

    def rejected(start: int, piece: Piece) -> bool:
        above = next((line for line in reversed(lines[max(start - 3, 0) : start]) if line.strip()), "")
        return is_rejected(above, piece.code, name)

    kept = [piece for start, _, piece in blocks if not (defines(piece.code, name) and rejected(start, piece))]
    whole = any((_rank(piece, name) or 0) >= _WHOLE for piece in kept)
    return kept if whole else [piece for _, _, piece in blocks]


def _bare_behind(answer: str, blocks: Sequence[tuple[int, int, Piece]], name: str) -> list[Piece]:
    """Whole versions of the function without a fence behind the last block that defines it, in the same turn."""
    behind = max((end for _, end, piece in blocks if defines(piece.code, name)), default=None)
    if behind is None:
        return []
    lines = answer.split("\n")
    last = next((i for i in range(max(behind - 1, 0), len(lines)) if ends_turn(lines[i])), len(lines))
    inside = {number for start, end, _ in blocks for number in range(start, end)}
    rest = "\n".join("" if i in inside else lines[i] for i in range(behind, last))
    if not mentions_definition(rest, name):
        return []
    return [piece for piece in bare_pieces(rest) if (_rank(piece, name) or 0) >= _WHOLE]


def _bare_before(
    answer: str, blocks: Sequence[tuple[int, int, Piece]], pieces: Sequence[Piece], name: str
) -> list[Piece]:
    """Whole versions of the function in front of the first fence, where the blocks have none that is as good: the fence
    that would open their block was left out, or the answer's end cut off a shorter copy."""
    if any((_rank(piece, name) or 0) > _WHOLE for piece in pieces):
        return []
    head = "\n".join(answer.split("\n")[: blocks[0][0]]) if blocks else ""
    if not mentions_definition(head, name):
        return []
    cut = max((len(piece.code) for piece in pieces if (_rank(piece, name) or 0) == _WHOLE), default=0)
    return [one for one in bare_pieces(head) if (_rank(one, name) or 0) >= _WHOLE and len(one.code) > cut]


def _without_cut_copy(pieces: list[Piece]) -> list[Piece]:
    """Without a last piece that repeats an earlier one and was cut off."""
    last = pieces[-1].code.rstrip() if pieces else ""
    copied = any(piece.code.rstrip() != last and piece.code.startswith(last) for piece in pieces[:-1])
    return pieces[:-1] if copied else pieces


def _generous(answer: str, name: str) -> Iterable[list[Piece]]:
    """Readings for answers whose fences do not hold the function."""
    whole = without_headings(without_noise(without_end_word(_FIRST_WORD.sub("", answer.strip("\n")))))
    if is_program(whole) and defines(whole, name):
        yield [Piece(whole, Label.NONE, True)]
    bare = bare_pieces(answer, marked=False)
    yield bare if any((_rank(piece, name) or 0) >= _WHOLE for piece in bare) else []
    yield [Piece(text, Label.NONE, True) for text in unfenced_patch(answer)]
    for text in quoted_texts(answer):
        yield [piece for _, _, piece in fenced_pieces(plain_lines(text).split("\n"))]
        yield [Piece(text.strip("\n"), Label.NONE, True)] if is_program(text) else []
        yield [piece for piece in bare_pieces(text) if parse(piece.code) is not None]
    spread = answer.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    if "\\n" in answer and "\n" not in answer.strip():  # escaped once too often
        yield [*(piece for _, _, piece in fenced_pieces(spread.split("\n"))), *bare_pieces(spread)]
    if "<br" in answer:
        answer = re.sub(r"<br ?/?>\n?", "\n", answer)
    if any(PROMPT.match(line) for line in answer.split("\n")):
        yield [Piece(transcript_code(answer), Label.NONE, True)]
    plain = undressed(whole, False, sentences=False)
    if is_program(plain):
        yield [Piece(plain, Label.NONE, True)]
    apart = END_MARK_AND_SPACE.sub("\n", answer)
    yield [Piece(text, Label.NONE, True) for text in numbered_programs(apart) if is_program(text)]
    yield list(boxed_pieces(answer))
    yield bare_pieces(answer)
    yield list(span_pieces(answer, name))
    yield list(span_line_pieces(answer))
    if "\\n" in answer and answer.count("\n") < answer.count("\\n"):
        yield [*(piece for _, _, piece in fenced_pieces(spread.split("\n"))), *bare_pieces(spread)]


def _choose(pieces: Sequence[Piece], name: str) -> str | None:
    """The last of the best pieces that define `name`, with the pieces that it needs; None if none defines it."""
    ranked = [(rank, i) for i, piece in enumerate(pieces) if (rank := _rank(piece, name)) is not None]
    if not ranked:
        return None
    best = max(rank for rank, _ in ranked)
    chosen = max(i for rank, i in ranked if rank == best)
    return _completed(pieces, chosen, name)


def _rank(piece: Piece, name: str) -> int | None:
    """How good a piece is as the solution; None if it does not define the function."""
    if not defines(piece.code, name):
        return 1 if not piece.foreign and imports_as(piece.code, name) else None
    valid = parse(piece.code) is not None
    if not valid and piece.label is Label.NONE and _END_OF_OTHER.search(piece.code):
        return None
    if piece.foreign:  # a mislabelled block, if Python reads it
        return 0 if valid and name in bound_names(piece.code) else None
    if valid and (is_elided(piece.code) or is_unwritten(piece.code, name)):
        return 1
    return 2 + 2 * valid + piece.closed


_WHOLE = 4
"""The least rank of a piece that Python reads and that leaves nothing out."""


def _completed(pieces: Sequence[Piece], chosen: int, name: str) -> str:
    """The chosen piece and those that bind what it needs, in the answer's order."""
    taken = {chosen}
    usable = [i for i, piece in enumerate(pieces) if not piece.foreign and piece.closed and parse(piece.code)]
    waiting = [chosen]
    while waiting:
        at = waiting.pop()
        for need in sorted(needed_names(pieces[at].code)):
            if any(need in provided_names(pieces[i].code) for i in taken if i != at or need != name):
                continue
            earlier = [i for i in usable if i < chosen and need in provided_names(pieces[i].code)]
            later = [i for i in usable if i > chosen and need in provided_names(pieces[i].code)]
            later = [i for i in later if name not in bound_names(pieces[i].code)]
            everything = [i for i in usable if i < chosen and imports_everything(pieces[i].code)]
            found = earlier[-1] if earlier else later[0] if later else everything[-1] if everything else None
            if found is not None and found not in taken:
                taken.add(found)
                waiting.append(found)
    taken.update(i for i in usable if i > chosen and only_sets_attributes_of(pieces[i].code, name))
    return "\n".join(pieces[i].code.strip("\n") for i in sorted(taken))


def _unnamed(answer: str, fenced: Sequence[Piece]) -> str | None:
    """Without a name to look for: the last block labelled Python, complete ones first, else the last program."""
    labelled = [piece for piece in fenced if piece.label is Label.PYTHON]
    plain = [piece for piece in fenced if piece.label is Label.NONE and parse(piece.code) is not None]
    for pieces in (labelled, [piece for piece in plain if is_program(piece.code)], plain):
        if pieces:
            return ([piece for piece in pieces if piece.closed] or pieces)[-1].code
    if is_program(answer.strip("\n")):
        return answer.strip("\n")
    bare = [] if fenced else bare_pieces(answer)
    return bare[-1].code if bare else None


def _fallback(answer: str, fenced: Sequence[Piece], name: str) -> str | None:
    """Code that does not define the function: a method of that name, else other definitions, else a program."""
    labelled = [piece for piece in fenced if piece.label is Label.PYTHON]
    plain = [piece for piece in fenced if piece.label is Label.NONE and is_program(piece.code)]
    bare = (
        []
        if labelled or plain
        else [
            piece
            for piece in bare_pieces(answer)
            if re.search(r"^(?:def|class|async)\b", piece.code, re.M) and not _END_OF_OTHER.search(piece.code)
        ]
    )
    pieces = [*labelled, *plain] or bare
    for test in (
        lambda p: mentions_definition(p.code, name),
        lambda p: re.search(r"^\s*(?:async\s+)?(?:def|class)\s", p.code, re.M) is not None,
        lambda p: p.closed,
        lambda p: True,
    ):
        found = [i for i, piece in enumerate(pieces) if test(piece)]
        if found:
            return _completed(pieces, found[-1], name)
    whole = without_noise(answer.strip("\n"))
    return whole if is_program(whole) else None
