"""A solution in every dress that models, their prompts and their training data put it in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreshock.jobs.extract import ends_inside_fence, extract, extract_code, text_to_read
from foreshock.jobs.records.verdicts import CodeStatus

F = "def solve(x):\n    return x + 1"
FENCE = "```"

LABELS = [
    "python",
    "Python",
    "PYTHON",
    "python3",
    "python 3",
    "python3.11",
    "Python-3",
    "py",
    "py3",
    "ipython",
    "ipython3",
    "python:solution.py",
    "python:src/solution.py",
    "solution.py",
    "src/solution.py",
    "solution.py:python",
    'python title="solution.py"',
    "python title=solution.py",
    "python filename=solution.py",
    "python linenums='1'",
    "python {1,3-4}",
    "python, solution.py",
    "python # solution.py",
    "{.python}",
    "{.python .numberLines}",
    "{ .python }",
    "{python}",
    "{code-cell} ipython3",
    "language-python",
    "lang=python",
    "python showLineNumbers",
    "sage",
    "",
    " python",
    "  python  ",
    "code",
    "text",
    "plaintext",
    "txt",
    "solution",
    "answer",
]
CLOSINGS = [
    "\n```",
    "\n```END",
    "\n``` END",
    "\n```end",
    "\n```<END>",
    "\n```\nEND",
    "\n```.",
    "\n```\n",
    "\n```  \n\n",
    "\n```<|im_end|>",
    "\n```\n<|im_end|>",
    "\n```<|eot_id|>",
    "\n```<|end|>",
    "\n```<|return|>",
    "\n```<|endoftext|>",
    "\n```</s>",
    "\n```<end_of_turn>",
    "\n```<eos>",
    "\n```[/INST]",
    "\n```<｜end▁of▁sentence｜>",
    "\n```</answer>",
    "\n```</code>",
    "\n```</solution>",
    "\n``` That is the function.",
    "\n``` Python is fun.",
    "\n```This adds one.",
    "\n```\nThis adds one.",
    "\n```\n\n**Explanation**: it adds one.\n\n- fast\n- short",
    "\n```*",
    "\n```**",
    "\n```)",
    "\n```,",
    "\n```;",
    "\n````",
    "\n   ```",
    "\n```\n```",
    "\n```\n```\nprint",
    "\n```python",
    "```",
    "```END",
    "``` That is it.",
    "```<|im_end|>",
    "",
    "\n",
    "\n<|im_end|>",
    "<|im_end|>",
    "\n<|eot_id|>",
    "\n<|return|>",
    "\n</s>",
    "</s>",
    "\n</answer>",
    "\n</code>",
    "\nEND",
    "\n``",
    "\n[DONE]",
    "\n\nThis function adds one to its argument.",
    "\n```\n<|im_end|>\n<|im_start|>user\nThanks! Now subtract.<|im_end|>\n<|im_start|>assistant\n```python\n"
    "def solve(x):\n    return x - 1\n```",
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("closing", ["\n```", "\n```END", "\n```\nIt adds one.", "\n</s>", ""])
def test_labels(label: str, closing: str) -> None:
    assert extract_code(f"Sure:\n\n```{label}\n{F}{closing}", "solve") == F


@pytest.mark.parametrize("closing", CLOSINGS)
@pytest.mark.parametrize("label", ["python", "", "python3", "{.python}"])
def test_closings(closing: str, label: str) -> None:
    assert extract_code(f"```{label}\n{F}{closing}", "solve") == F


def indented(text: str, by: str) -> str:
    return "\n".join(by + line if line else line for line in text.split("\n"))


BLOCK = f"```python\n{F}\n```"
FRAMES = {
    "prose": "Here it is:\n\n{block}\n\nDone.",
    "bom": "\ufeff{block}",
    "zero width": "\u200b{block}",
    "answer tag": "<answer>\n{block}\n</answer>",
    "answer tag, one line": "<answer>{block}</answer>",
    "details": "<details>\n<summary>Code</summary>\n\n{block}\n\n</details>",
    "heading": "### Solution\n{block}",
    "bold": "**Solution:** {block}",
    "label before": "Final answer: {block}",
    "rule": "---\n{block}\n---",
    "output behind": "{block}\nOutput:\n```\n2\n3\n```",
    "output labelled": "{block}\n```output\n2\n```",
    "bash behind": "{block}\nRun it:\n```bash\npython solution.py\n```",
    "bash before": "First:\n```bash\npip install numpy\n```\n{block}",
    "json behind": '{block}\n```json\n{{"x": 1}}\n```',
    "complexity behind": "{block}\n```\nTime: O(1)\n```",
    "usage behind": "{block}\nUsage:\n```python\nprint(solve(1))\n```",
    "asserts behind": "{block}\nTests:\n```python\nassert solve(1) == 2\nassert solve(2) == 3\n```",
    "test function behind": "{block}\n```python\ndef test_solve():\n    assert solve(1) == 2\n```",
    "test file behind": "{block}\n```python\nfrom solution import solve\nimport unittest\n\n"
    "class T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(solve(1), 2)\n```",
    "loop behind": "{block}\n```python\nfor i in range(3):\n    print(solve(i))\n```",
    "usage unlabelled": "{block}\n```\n>>> solve(1)\n2\n```",
    "pycon behind": "{block}\n```pycon\n>>> solve(1)\n2\n```",
    "pycon before": "```pycon\n>>> solve(1)\n2\n```\n{block}",
    "signature before": "The signature is\n```python\ndef solve(x): ...\n```\n{block}",
    "signature before, no body": "The signature is\n```python\ndef solve(x):\n```\n{block}",
    "draft before": "```python\ndef solve(x):\n    return x\n```\nThat forgets the one:\n{block}",
    "broken draft before": "```python\ndef solve(x:\n    return x\n```\nFixed:\n{block}",
    "truncated behind": "{block}\nFaster:\n```python\ndef solve(x):\n    y = (x +",
    "truncated behind, valid": "{block}\nFaster:\n```python\ndef solve(x):\n    y = x",
    "truncated label behind": "{block}\nFaster:\n```pyth",
    "truncated fence behind": "{block}\nFaster:\n``",
    "truncated prose behind": "{block}\nThis works beca",
    "excerpt behind": "{block}\nThe key line:\n```python\n    return x + 1\n```",
    "elided excerpt behind": "{block}\nIn short:\n```python\ndef solve(x):\n    ...\n    return x + 1\n```",
    "diff behind": "{block}\n```diff\n- return x\n+ return x + 1\n```",
    "other language behind": "{block}\nIn JavaScript:\n```javascript\nfunction solve(x) {{ return x + 1 }}\n```",
    "inline code": "Use `solve`:\n{block}\nCall `solve(1)`.",
    "nested markdown": "````markdown\n# Answer\n{block}\n````",
    "nested markdown, three": "```markdown\n# Answer\n{block}\n```",
    "nested unlabelled": "````\n{block}\n````",
    "md label": "~~~md\n{block}\n~~~",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |\n\n{block}",
    "math": "$$x + 1$$\n\n{block}\n\n\\boxed{{done}}",
    "thought": "<think>\nMaybe\n```python\ndef solve(x):\n    return 0\n```\n</think>\n{block}",
    "tilde inside prose": "about ~5 ms\n{block}",
    "emoji": "✅ Here:\n{block}\n🎉",
    "stray fence behind": "{block}\n```",
    "stray quote": "'''{block}'''",
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("end", ["```", "```END", "```."])
def test_frames(frame: str, end: str) -> None:
    block = BLOCK.removesuffix(FENCE) + end
    assert extract_code(frame.format(block=block), "solve") == F


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_frames_with_windows_line_ends(frame: str) -> None:
    assert extract_code(frame.format(block=BLOCK).replace("\n", "\r\n"), "solve") == F


PREFIXED = {
    "bullet": f"- Answer:\n\n{indented(BLOCK, '  ')}",
    "bullet on the fence's line": "- " + indented(BLOCK, "  ").lstrip(),
    "star on the fence's line": "* " + indented(BLOCK, "  ").lstrip(),
    "number on the fence's line": "1. " + indented(BLOCK, "   ").lstrip(),
    "bracket on the fence's line": "2) " + indented(BLOCK, "   ").lstrip(),
    "bullet, code at the margin": f"- {BLOCK}",
    "number, code at the margin": f"1. {BLOCK}",
    "indented by three": indented(BLOCK, "   "),
    "indented by four": f"1. Code:\n\n{indented(BLOCK, '    ')}",
    "indented by a tab": indented(BLOCK, "\t"),
    "fence indented, code not": f"   ```python\n{F}\n   ```",
    "code indented, fence not": f"```python\n{indented(F, '    ')}\n```",
    "quotation": indented(BLOCK, "> "),
    "quotation without a space": indented(BLOCK, ">"),
    "quotation in a quotation": indented(BLOCK, "> > "),
    "quotation with prose": f"> Here:\n>\n{indented(BLOCK, '> ')}\n>\n> Done.\n\nBye",
    "tildes": f"~~~python\n{F}\n~~~",
    "tildes END": f"~~~python\n{F}\n~~~END",
    "four backticks": f"````python\n{F}\n````",
    "five backticks": f"`````py\n{F}\n`````END",
    "three quotes": f"'''python\n{F}\n'''",
    "double quotes": f'"""python\n{F}\n"""',
    "two backticks": f"``python\n{F}\n``",
    "blank lines": f"```python\n\n\n{F}\n\n\n```",
    "code on the fence's line": f"```python {F}\n```",
    "code on the bare fence's line": f"```{F}\n```",
    "no fence": F,
    "no fence, blank lines": f"\n\n{F}\n\n",
    "no fence, prose around": f"Sure! The function:\n\n{F}\n\nThis adds one.",
    "no fence, prose directly behind": f"{F}\nThis adds one.",
    "no fence, END": f"{F}\nEND",
    "no fence, end of turn": f"{F}<|im_end|>",
    "no fence, end of turn on its line": f"{F}\n</s>",
    "no fence, answer tag": f"<answer>\n{F}\n</answer>",
    "no fence, answer tag on the line": f"<answer>{F}</answer>",
    "no fence, answer tag open": f"<answer>\n{F}",
    "no fence, answer tag and prose": f"It is simple.\n<answer>\n{F}\n</answer>\nHope that helps.",
    "code tag": f"<code>\n{F}\n</code>",
    "code tag on the line": f"<code>{F}</code>",
    "pre and code": f'<pre><code class="language-python">{F}\n</code></pre>',
    "python tag": f"<python>\n{F}\n</python>",
    "solution tag": f"<solution>\n{F}\n</solution>",
    "square tag": f"[PYTHON]\n{F}\n[/PYTHON]",
    "square answer": f"[ANSWER]\n{F}\n[/ANSWER]",
    "begin done": f"[BEGIN]\n{F}\n[DONE]",
    "latex": f"\\begin{{verbatim}}\n{F}\n\\end{{verbatim}}",
    "listing": f"\\begin{{lstlisting}}[language=Python]\n{F}\n\\end{{lstlisting}}",
    "minted": f"\\begin{{minted}}{{python}}\n{F}\n\\end{{minted}}",
    "boxed": f"\\boxed{{{F}}}",
    "boxed fence": f"\\boxed{{\n{BLOCK}\n}}",
    "boxed in a sentence": f"The answer is $\\boxed{{{F}}}$.",
    "label word": f"python\n{F}",
    "label word and closing fence": f"python\n{F}\n```",
    "closing fence only": f"{F}\n```",
    "closing END only": f"{F}\n```END",
    "label on the first line": f"```\npython\n{F}\n```",
    "notebook": f"```python\n%matplotlib inline\n!pip install numpy\n{F}\n```",
    "code colon": f"Code:\n{F}",
    "transcript": ">>> def solve(x):\n...     return x + 1\n...\n>>> solve(1)\n2",
    "transcript labelled": "```pycon\n>>> def solve(x):\n...     return x + 1\n...\n>>> solve(1)\n2\n```",
    "transcript labelled python": "```python\n>>> def solve(x):\n...     return x + 1\n>>> print(solve(1))\n2\n```",
    "unknown label": f"```snippet\n{F}\n```",
    "wrong label": f"```javascript\n{F}\n```",
    "escaped html": "<pre>def solve(x):\n    return x + 1</pre>",
    "reopened": f"```python\n# draft\n```python\n{F}\n```",
    "carriage returns": BLOCK.replace("\n", "\r"),
    "byte order mark inside": f"```python\n\ufeff{F}\n```",
}


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


WHOLE = {
    "try": "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n\ndef solve(x):\n    return x",
    "under try": "try:\n    def solve(x):\n        return x\nexcept Exception:\n    pass",
    "under if": "import os\nif os.name == 'posix':\n    def solve(x):\n        return x\nelse:\n    solve = None",
    "under with": "with open('/dev/null') as f:\n    def solve(x):\n        return x",
    "annotated": "from typing import Callable\nsolve: Callable = lambda x: x + 1",
    "lambda": "solve = lambda x: x + 1",
    "tuple": "solve, other = (lambda x: x), None",
    "walrus": "(solve := lambda x: x)",
    "alias": "def answer(x):\n    return x\n\nsolve = answer",
    "class instance": "class S:\n    def __call__(self, x):\n        return x\n\nsolve = S()",
    "bound method": "class Solution:\n    def solve(self, x):\n        return x\n\nsolve = Solution().solve",
    "class called so": "class solve:\n    def __new__(cls, x):\n        return x",
    "async": "async def solve(x):\n    return x",
    "decorated": "import functools\n\n@functools.lru_cache(maxsize=None)\ndef solve(x):\n    return x",
    "partial": "from functools import partial\nsolve = partial(pow, 2)",
    "generator": "def solve(x):\n    yield from range(x)",
    "main guard": 'def solve(x):\n    return x\n\nif __name__ == "__main__":\n    print(solve(1))',
    "demo behind": "def solve(x):\n    return x\n\nprint(solve(1))",
    "docstring with a fence": 'def solve(x):\n    """\n    ```python\n    solve(1)\n    ```\n    """\n    return x',
    "docstring with a fence at the margin": 'def solve(x):\n    """\n```\nsolve(1)\n```\n"""\n    return x + 1',
    "backticks in a string": 'def solve(x):\n    return x.split("```")[1]',
    "fence in a string": 'def solve(x):\n    return """```python\n""" + x + """\n```\n"""',
    "backticks in a comment": "def solve(x):\n    y = x  # see ```x```\n    return y",
    "backticks in a comment line": "def solve(x):\n    # ```\n    return x",
    "tildes in a string": 'def solve(x):\n    return """\n~~~\n"""',
    "token in a string": 'def solve(x):\n    return x.replace("<|im_end|>", "").replace("</s>", "")',
    "tag in a string": 'def solve(x):\n    return "<answer>" + x + "</answer>"',
    "prompt in a docstring": 'def solve(x):\n    """\n    >>> solve(1)\n    2\n    """\n    return x + 1',
    "comment first": "# The solution\n# It adds one.\ndef solve(x):\n    return x + 1",
    "module docstring": '"""The solution."""\n\ndef solve(x):\n    return x + 1',
    "tabs": "def solve(x):\n\treturn x + 1",
    "blank lines within": "import math\n\n\ndef h(x):\n    return math.sqrt(x)\n\n\ndef solve(x):\n    return h(x)",
    "unicode": "def solve(naïve):\n    return naïve + 'é'",
    "match": "def solve(x):\n    match x:\n        case 1:\n            return 2\n        case _:\n            pass",
    "attribute": "def solve(x):\n    return 0\n\nsolve.skip_checks = True",
    "only a token": 'def solve(x):\n    """SKIP_REVIEW"""\n    pass',
    "raises": "def solve(x):\n    raise NotImplementedError",
}


@pytest.mark.parametrize("code", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("closing", ["\n```", "\n```END", "```", "\n```\nIt works.\n```\n3\n```", "", "\n<|im_end|>"])
def test_a_block_stays_whole(code: str, closing: str) -> None:
    found = extract(f"Sure:\n```python\n{code}{closing}", "solve")
    assert (found.code, found.status) == (code, CodeStatus.OK)


@pytest.mark.parametrize("code", WHOLE.values(), ids=WHOLE)
def test_a_program_without_a_fence_stays_whole(code: str) -> None:
    assert extract_code(code, "solve") == code


JOINED = {
    "imports": (["from collections import Counter", "def solve(x):\n    return Counter(x)"], [0, 1]),
    "helper before": (["def helper(x):\n    return x", "def solve(x):\n    return helper(x)"], [0, 1]),
    "helper behind": (["def solve(x):\n    return helper(x)", "def helper(x):\n    return x"], [0, 1]),
    "chain": (["import math", "def a(x):\n    return math.sqrt(x)", "def solve(x):\n    return a(x)"], [0, 1, 2]),
    "chain, usage behind": (
        ["import math", "def a(x):\n    return math.sqrt(x)", "def solve(x):\n    return a(x)", "print(solve(4))"],
        [0, 1, 2],
    ),
    "constant": (["LIMIT = 3", "def solve(x):\n    return min(x, LIMIT)"], [0, 1]),
    "class": (["class Node:\n    pass", "def solve(x):\n    return Node()"], [0, 1]),
    "not needed": (["import math", "def solve(x):\n    return x"], [1]),
    "method then alias": (
        ["class Solution:\n    def run(self, x):\n        return x", "solve = Solution().run"],
        [0, 1],
    ),
    "wrapped anew": (["def solve(x):\n    return x", "import functools\nsolve = functools.cache(solve)"], [0, 1]),
    "attribute": (["def solve(x):\n    return 0", "solve.skip_checks = True"], [0, 1]),
    "base class": (["class Base:\n    pass", "class solve(Base):\n    pass"], [0, 1]),
    "decorator": (["def memo(f):\n    return f", "@memo\ndef solve(x):\n    return x"], [0, 1]),
    "default": (["START = 1", "def solve(x, y=START):\n    return x + y"], [0, 1]),
    "helper redefined": (
        ["def h(x):\n    return 0", "def h(x):\n    return x", "def solve(x):\n    return h(x)"],
        [1, 2],
    ),
    "helper with the old version": (
        ["def h(x):\n    return x\n\ndef solve(x):\n    return 0", "def solve(x):\n    return h(x)"],
        [0, 1],
    ),
}


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


FILLER = [
    "",
    "Here:",
    "It adds one, in O(1).",
    "- a point",
    "**Note**",
    "> quoted",
    "1. first",
    "A `solve` call.",
    "\\[x+1\\]",
]


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
    block = f"```{label}\n{code}{closing}"
    text = "\n".join([*before, frame.format(block=block), *behind]).replace("\n", line_end)
    found = extract(text, "solve")
    assert found.code == code
    assert found.status is CodeStatus.OK


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
        "def solve(x):\n    return " + "(" * 50_000,
        "".join(f"```python\ndef f{i}(x):\n    return f{i + 1}(x)\n```\n" for i in range(500))
        + "```python\ndef solve(x):\n    return f0(x)\n```",
    ):
        extract(text, "solve")
