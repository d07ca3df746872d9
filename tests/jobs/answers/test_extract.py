"""Code extraction: the final answer's block, whole, or nothing."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.answers.extract import extract_code

SOLUTION = "def solve(x):\n    return x + 3"


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{SOLUTION}\n```",
        f"```py\n{SOLUTION}\n```",
        f"```Python3\n{SOLUTION}\n```",
        f"```{{.python}}\n{SOLUTION}\n```",
        f"```\n{SOLUTION}\n```",
        f"~~~python\n{SOLUTION}\n~~~",
        f"````python\n{SOLUTION}\n````",
        f"Here it is:\n```python\n{SOLUTION}\n```\nIt adds three.",
        f"Here it is: ```python\n{SOLUTION}\n```",
        f"```python\n{SOLUTION}",
        f"```python\n{SOLUTION}```",
        f"```python title=a.py\n{SOLUTION}\n```  ",
        f"```python\r\n{SOLUTION}\r\n```\r\n".replace("\n    ", "\r\n    "),
        SOLUTION,
        f"\n{SOLUTION}\n",
    ],
)
def test_one_block_in_any_dress(answer: str) -> None:
    assert extract_code(answer) == SOLUTION


@pytest.mark.parametrize(
    "answer", [None, "", "  \n", "I do not know.", "None", "yes", "```\n\n```", "```bash\npip install x\n```", "42"]
)
def test_no_code_is_none(answer: str | None) -> None:
    assert extract_code(answer) is None


def test_a_fence_inside_a_string_does_not_cut_the_block() -> None:
    code = 'DOC = """\n```\nexample\n```\n"""\n\ndef solve(x):\n    return DOC'
    assert extract_code(f"```python\n{code}\n```\nDone.") == code


def test_invalid_code_ends_at_its_first_closing_fence() -> None:
    assert extract_code("```python\ndef solve(x:\n```\ntext\n```\nother\n```") == "def solve(x:"


def test_the_last_block_is_the_answer() -> None:
    assert extract_code("```python\ndraft = 1\n```\nBetter:\n```python\nfinal = 2\n```") == "final = 2"


def test_a_usage_example_after_the_solution_is_not_the_answer() -> None:
    answer = f"```python\n{SOLUTION}\n```\nUse it:\n```python\nprint(solve(2))\n```\nIt prints\n```\n5\n```"
    assert extract_code(answer, "solve") == SOLUTION
    assert extract_code(answer) == "print(solve(2))"


@pytest.mark.parametrize(
    "code", ["solve = lambda x: x + 3", "class solve:\n    pass", "async def solve(x):\n    return x", "def solve(x:"]
)
def test_every_way_to_define_the_function_counts(code: str) -> None:
    assert extract_code(f"```python\n{code}\n```\n```python\nprint(1)\n```", "solve") == code


def test_code_without_the_function_is_still_the_submission() -> None:
    assert extract_code("```python\nimport sys\nsys.exit(0)\n```", "solve") == "import sys\nsys.exit(0)"


def test_labelled_blocks_come_before_unlabelled_ones() -> None:
    assert extract_code(f"```python\n{SOLUTION}\n```\nOutput:\n```\n5\n```") == SOLUTION


def test_other_languages_are_skipped() -> None:
    assert extract_code(f"```python\n{SOLUTION}\n```\n```json\n{{}}\n```") == SOLUTION


def test_a_block_in_a_list_loses_its_indentation() -> None:
    block = "\n".join(f"  {line}" for line in f"```python\n{SOLUTION}\n```".split("\n"))
    assert extract_code(f"- Answer:\n{block}") == SOLUTION


def test_hostile_nesting_is_no_crash() -> None:
    deep = "(" * 5000 + ")" * 5000
    assert extract_code(f"```python\nx = {deep}\n```") == f"x = {deep}"
    assert extract_code("```python\n" * 400) is None
    assert extract_code("```python\nx = '\0'\n```") == "x = '\0'"


@pytest.mark.parametrize("unit", ["the answer ", "Final code ", "here's my solution "])
def test_a_sentence_that_never_ends_does_not_take_long(unit: str) -> None:
    """Days, if the words before a colon could be parted in several ways."""
    assert extract_code(unit * 20_000 + f"\n{SOLUTION}") == SOLUTION


def test_many_fences_do_not_take_long() -> None:
    assert extract_code("```python\nx = (\n" + "```\n" * 20000) == "x = ("


@pytest.mark.parametrize("deep", ["a+" * 2000 + "a", "a**" * 2000 + "a", "f" + "()" * 3000, "a" + "[0]" * 3000])
def test_a_deep_expression_beside_a_program_is_code(deep: str) -> None:
    assert extract_code(f"```python\n{SOLUTION}\n\n{deep}\n```") == f"{SOLUTION}\n\n{deep}"


def test_a_token_behind_a_deep_expression_is_taken_off() -> None:
    deep = "a+" * 2000 + "a"
    assert extract_code(f"{SOLUTION}\n\n{deep}  # <|im_end|>", "solve") == f"{SOLUTION}\n\n{deep}  #"


lines = st.text(st.characters(exclude_characters="\r\n`~", exclude_categories=("Cs", "Cc")), max_size=20)
programs = st.lists(
    st.sampled_from(
        ["x = 1", "def f(a):\n    return a", 's = """\n```\n"""', "t = '```'", "# ```python", "class C:\n    y = 2"]
    ),
    min_size=1,
    max_size=6,
).map("\n".join)


@given(code=programs, before=lines, after=lines, label=st.sampled_from(["python", "py", ""]))
def test_a_program_comes_back_exactly(code: str, before: str, after: str, label: str) -> None:
    ast.parse(code)
    assert extract_code(f"{before}\n```{label}\n{code}\n```\n{after}") == code


@given(st.text(st.sampled_from("`~python\n x='\"()"), max_size=60))
def test_what_is_extracted_is_part_of_the_answer(answer: str) -> None:
    code = extract_code(answer, "x")
    if code is not None:
        assert code.strip()
        remaining = answer.split("\n")
        for line in code.split("\n"):  # every line occurs, in order
            while remaining and line not in remaining[0]:
                remaining.pop(0)
            assert remaining
