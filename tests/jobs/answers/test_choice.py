"""What is taken of an answer: which blocks, with what status, and never with a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_answers import BLOCK, JOINED, F

from foreshock.jobs.answers.endings import without_end_word
from foreshock.jobs.answers.extract import extract, extract_code
from foreshock.jobs.answers.text_to_read import ends_inside_fence, stored_text_to_read, text_to_read
from foreshock.jobs.records.verdicts import CodeStatus


@pytest.mark.parametrize(("blocks", "expected"), JOINED.values(), ids=JOINED)
@pytest.mark.parametrize("end", ["```", "```END"])
def test_blocks_that_the_function_needs_belong_to_it(blocks: list[str], expected: list[int], end: str) -> None:
    text = "\n".join(f"Step {i}:\n```python\n{block}\n{end}" for i, block in enumerate(blocks, start=1))
    assert extract_code(text, "solve") == "\n".join(blocks[i] for i in expected)


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ("```python\ndef solve(x):\n    return x + ", "def solve(x):\n    return x +", CodeStatus.DOES_NOT_COMPILE),
        ("```python\ndef solve(x):\n    y = [1,\n", "def solve(x):\n    y = [1,", CodeStatus.DOES_NOT_COMPILE),
        ("def solve(x):\n    return x +", "def solve(x):\n    return x +", CodeStatus.DOES_NOT_COMPILE),
        (
            "```python\ndef solve(x):\n    return (x\n```\nDone.",
            "def solve(x):\n    return (x",
            CodeStatus.DOES_NOT_COMPILE,
        ),
        ("```python\ndef solve(x):\nreturn x\n```", "def solve(x):\nreturn x", CodeStatus.DOES_NOT_COMPILE),
        ("```python\nreturn 1\n```", "return 1", CodeStatus.DOES_NOT_COMPILE),
        ("```python\ndef other(x):\n    return x\n```", "def other(x):\n    return x", CodeStatus.FUNCTION_MISSING),
        ("```python\nimport sys\nsys.exit(0)\n```", "import sys\nsys.exit(0)", CodeStatus.FUNCTION_MISSING),
        (
            "```python\nclass Solution:\n    def solve(self, x):\n        return x\n```\n```python\nprint(1)\n```",
            "class Solution:\n    def solve(self, x):\n        return x",
            CodeStatus.FUNCTION_MISSING,
        ),
        ("```python\nfrom helpers import solve\n```", "from helpers import solve", CodeStatus.OK),
        (None, None, CodeStatus.NO_ANSWER),
        ("", None, CodeStatus.NO_CODE),
        ("I cannot do that.", None, CodeStatus.NO_CODE),
        ("The function solve(x) returns x + 1.", None, CodeStatus.NO_CODE),
        ("```\n2\n3\n```", None, CodeStatus.NO_CODE),
        ('```json\n{"code": "def solve(x): return 1"}\n```', None, CodeStatus.NO_CODE),
        ("```bash\npython solve.py\n```", None, CodeStatus.NO_CODE),
        ("```python\n```", None, CodeStatus.NO_CODE),
        ("```python\n\n\n```END", None, CodeStatus.NO_CODE),
        ("42", None, CodeStatus.NO_CODE),
        ("None", None, CodeStatus.NO_CODE),
    ],
)
def test_status(text: str | None, code: str | None, status: CodeStatus) -> None:
    found = extract(text, "solve")
    assert (None if found.code is None else found.code.strip("\n"), found.status) == (code, status)


def test_what_the_token_limit_cut_is_an_outcome_of_its_own() -> None:
    unfinished = extract("```python\ndef solve(x):\n    return (x", "solve")
    assert unfinished.ended_by("length").status is CodeStatus.TRUNCATED
    assert unfinished.ended_by("stop").status is CodeStatus.DOES_NOT_COMPILE
    assert extract("Let me see", "solve").ended_by("length").status is CodeStatus.TRUNCATED
    assert extract(None, "solve").ended_by("length").status is CodeStatus.NO_ANSWER
    assert extract(f"{BLOCK}\nNow I will expl", "solve").ended_by("length").status is CodeStatus.OK
    assert not CodeStatus.TRUNCATED.judged
    assert CodeStatus.DOES_NOT_COMPILE.judged


def test_a_prefill_that_ends_inside_a_fence_is_read_with_its_continuation() -> None:
    cuts = range(len("```python\nd"), len(BLOCK) - len("\n```"))
    for cut in cuts:
        before, answer = f"I would write\n{BLOCK[:cut]}", BLOCK[cut:] + "\nDone."
        assert ends_inside_fence(before), before
        assert extract(text_to_read(before, answer, "", answer), "solve").code == F
        closing = answer.index("\n```") + 1  # a format without reasoning takes all before a fence for reasoning
        assert extract(text_to_read(before, answer, answer[:closing], answer[closing:]), "solve").code == F


PARTED = {
    "quotation": ("> ```python\n", "> " + F.replace("\n", "\n> "), "\n> ```"),
    "item": ("- ```py\n", "  " + F.replace("\n", "\n  "), "\n  ```END"),
    "tag": ("It is <answer>\n", F, "\n</answer>"),
    "tag on the line": ("It is <answer>", F, "</answer> so"),
    "square tag": ("[PYTHON]\n", F, "\n[/PYTHON]"),
    "formula": ("\\begin{verbatim}\n", F, "\n\\end{verbatim}"),
    "no fence": ("The function:\n\ndef", F.removeprefix("def"), "\n\nThis adds one."),
    "fence behind a draft": (f"{BLOCK.replace('+', '-')}\nbetter:\n```python\n", F, "\n```"),
}


@pytest.mark.parametrize(("before", "code", "behind"), PARTED.values(), ids=PARTED)
def test_a_prefill_that_ends_inside_code_is_read_with_its_continuation(before: str, code: str, behind: str) -> None:
    for cut in range(len(code)):
        prefill, response = before + code[:cut], code[cut:] + behind
        assert extract(text_to_read(prefill, response, "", response), "solve").code == F
        assert extract(stored_text_to_read(response, "", prefill), "solve").code == F


@pytest.mark.parametrize(
    "draft",
    [
        "```python\ndef solve(x):\n    return 0\n```\nI would",
        "I could write def solve(x): return 0 but",
        "def solve(x):\n    return 0\n\nThat is the code. Now",
        "<answer>\ndef solve(x):\n    return 0\n</answer>",
        "def solve(x):\n    return 0\n",
        "import math\n\nSTEP = 1\n\ndef solve(x):\n    return STEP\n\n",
    ],
)
def test_code_that_ended_in_the_prefill_is_not_the_models_answer(draft: str) -> None:
    answer = "I will not do that."
    assert extract(text_to_read(draft, answer, "", answer), "solve").status is CodeStatus.NO_CODE


def test_a_prefill_that_ends_outside_a_fence_is_not_looked_at() -> None:
    draft = "```python\ndef solve(x):\n    return 0\n```\nso "
    assert not ends_inside_fence(draft)
    assert text_to_read(draft, BLOCK, "", BLOCK) == BLOCK
    assert text_to_read("```python\ndef so", f"lve</think>{BLOCK}", "lve", BLOCK) == BLOCK
    assert text_to_read("```python", "still thinking", "still thinking", None) is None


@pytest.mark.parametrize("label", ["python", ""])
@pytest.mark.parametrize("closing", ["\n```", "\n```END", ""])
def test_an_answer_tag_beats_a_block_behind_it(label: str, closing: str) -> None:
    text = f"<answer>\n```{label}\n{F}{closing}\n</answer>\nA variant:\n```python\ndef solve(x):\n    return 1 + x\n```"
    assert extract_code(text, "solve") == F


@given(
    st.lists(
        st.sampled_from(
            [
                "```",
                "```python\n",
                "```END\n",
                "def solve(x):\n",
                "    return x\n",
                "\n",
                "~~~",
                "> ",
                "- ",
                '"""',
                "'''",
                "<answer>",
                "</answer>",
                ">>> ",
                "... ",
                "\\boxed{",
                "}",
                "`",
                "x = 1\n",
                "Prose.\n",
                "#",
                "&lt;",
                "<code>",
                "\\n",
                "(",
                "\r",
                "\ufeff",
            ]
        ),
        max_size=30,
    )
)
def test_any_mixture_gives_an_answer(parts: list[str]) -> None:
    found = extract("".join(parts), "solve")
    assert (found.code is None) == (found.status is CodeStatus.NO_CODE)
    assert found.code is None or found.code.strip()


def test_a_hostile_answer_ends() -> None:
    for text in (
        "```python\nx = (\n" + "```\n" * 20_000,
        "```python\n" * 5_000,
        "x = 1\nProse here.\n" * 5_000,
        "\\boxed{" * 5_000 + "}" * 5_000,
        "`" * 50_000,
        "> " * 20_000,
        "<answer>" * 5_000,
        "def solve(x):\n" * 5_000,
        ">>> x\n" * 5_000,
        "    " * 50_000 + "```python",
        "```{" * 5_000,
        "```\n" + '\\"' * 30_000,  # strings that never end
        "```json\n{" + '\\"' * 30_000,
        "def solve(x):\n    return " + "(" * 50_000,
        "".join(f"```python\ndef f{i}(x):\n    return f{i + 1}(x)\n```\n" for i in range(500))
        + "```python\ndef solve(x):\n    return f0(x)\n```",
    ):
        extract(text, "solve")


@pytest.mark.parametrize("line", ["```", "``", "~~~", "END", "``END", "---"])
def test_lines_repeated_to_the_token_limit_are_read_in_the_time_that_few_take(line: str) -> None:
    """Where each line could be read in two ways, fifty of them would take years."""
    repeated = f"{line}\n" * 300
    assert extract_code(f"```python\n{F}\n```\n\nDone.\n\n{repeated}\nx", "solve") == F
    assert without_end_word(f"{F}\n{repeated}x") == f"{F}\n{repeated}x"
    assert without_end_word(f"{F}\n{repeated}") == F
