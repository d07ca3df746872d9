"""A solution in every dress that models, their prompts and their training data put it in."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from written_answers import BLOCK, CLOSINGS, FENCE, FILLER, FRAMES, LABELS, PREFIXED, WHOLE, F

from foreshock.jobs.answers.extract import extract, extract_code
from foreshock.jobs.records.verdicts import CodeStatus


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("closing", ["\n```", "\n```END", "\n```\nIt adds one.", "\n</s>", ""])
def test_labels(label: str, closing: str) -> None:
    assert extract_code(f"Sure:\n\n```{label}\n{F}{closing}", "solve") == F


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("label", ["python", "", "python3", "{.python}"])
def test_closings(closing: str, label: str) -> None:
    assert extract_code(f"```{label}\n{F}{closing}", "solve") == F


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("end", ["```", "```END", "```."])
def test_frames(frame: str, end: str) -> None:
    block = BLOCK.removesuffix(FENCE) + end
    assert extract_code(frame.format(block=block), "solve") == F


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_with_windows_line_ends(frame: str) -> None:
    assert extract_code(frame.format(block=BLOCK).replace("\n", "\r\n"), "solve") == F


@pytest.mark.parametrize("text", PREFIXED.values(), ids=PREFIXED)
def test_where_a_block_may_stand(text: str) -> None:
    assert extract_code(text, "solve") == F


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("`def solve(x): return x + 1`", "def solve(x): return x + 1"),
        ("The answer: `solve = lambda x: x + 1`.", "solve = lambda x: x + 1"),
        ("```python def solve(x): return x + 1```", "def solve(x): return x + 1"),
        ("```def solve(x): return x + 1```", "def solve(x): return x + 1"),
        ("<answer>def solve(x): return x + 1</answer>", "def solve(x): return x + 1"),
        ("Answer: def solve(x): return x + 1", "def solve(x): return x + 1"),
        ("<code>def solve(x):\n    return x &lt; 1</code>", "def solve(x):\n    return x < 1"),
        ("```python\\ndef solve(x):\\n    return x + 1\\n```", F),
    ],
)
def test_code_on_one_line(text: str, code: str) -> None:
    assert extract_code(text, "solve") == code


@pytest.mark.parametrize("code", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("closing", ["\n```", "\n```END", "```", "\n```\nIt works.\n```\n3\n```", "", "\n<|im_end|>"])
def test_a_block_stays_whole(code: str, closing: str) -> None:
    found = extract(f"Sure:\n```python\n{code}{closing}", "solve")
    assert (found.code, found.status) == (code, CodeStatus.OK)


@pytest.mark.parametrize("code", WHOLE.values(), ids=WHOLE)
def test_a_program_without_a_fence_stays_whole(code: str) -> None:
    assert extract_code(code, "solve") == code


@settings(max_examples=200)
@given(
    code=st.sampled_from(list(WHOLE.values())),
    label=st.sampled_from(LABELS),
    closing=st.sampled_from([c for c in CLOSINGS if c.startswith("\n```") and "im_start" not in c]),
    before=st.lists(st.sampled_from(FILLER), max_size=3),
    behind=st.lists(st.sampled_from(FILLER), max_size=3),
    frame=st.sampled_from(list(FRAMES.values())),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_dress_around_any_program(
    code: str, label: str, closing: str, before: list[str], behind: list[str], frame: str, line_end: str
) -> None:
    assume("NotImplementedError" not in code or "def solve" not in frame)  # then the frame's version is the written one
    block = f"```{label}\n{code}{closing}"
    text = "\n".join([*before, frame.format(block=block), *behind]).replace("\n", line_end)
    found = extract(text, "solve")
    assert found.code == code
    assert found.status is CodeStatus.OK
