"""Faults of earlier readers, one case a kind: each text once gave other code than a careful reader takes."""

from __future__ import annotations

import json

import pytest
from written_answers import BLOCK, F

from foreshock.jobs.answers.extract import extract, extract_code
from foreshock.jobs.records.verdicts import CodeStatus

OTHER = "def solve(x):\n    return 0"
TOKENS = [
    *("<|im_end|>", "<|endofturn|>", "<extra_id_1>", "<seed:eos>", "<SPECIAL_12>", "<unused1>", "<pad>", "<_end>"),
    *("<0x0A>", "[EOS]", "[|endofturn|]", "[e~[", "▁<EOT>", "<｜end▁of▁sentence｜>", "</s></s>", "[/INST]"),
]
TURNS = [
    "<|im_end|>\n<|im_start|>user\nShorter.<|im_end|>\n<|im_start|>assistant\n",
    "<|user|>\nShorter.<|assistant|>\n",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nShorter.<|eot_id|>\n",
    "<end_of_turn>\n<start_of_turn>user\nShorter.<end_of_turn>\n<start_of_turn>model\n",
    "</s>[INST] Shorter. [/INST] ",
    "<｜User｜>Shorter.<｜Assistant｜>",
    "<|end|><|start|>user<|message|>Shorter.<|end|><|start|>assistant<|channel|>final<|message|>",
    "\n\n### Instruction:\nShorter.\n\n### Response:\n",
    "\n\nUser: Shorter.\nAssistant: ",
]


def block(code: str, label: str = "python") -> str:
    return f"```{label}\n{code}\n```"


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("before", ["", "\n", "\n```", "\n```END"])
def test_special_tokens_of_any_family_belong_to_no_program(token: str, before: str) -> None:
    assert extract_code(f"```python\n{F}{before}{token}", "solve") == F


@pytest.mark.parametrize("turn", TURNS)
def test_what_a_model_writes_behind_its_turn_is_not_its_answer(turn: str) -> None:
    assert extract_code(f"{BLOCK}{turn}{block(OTHER)}", "solve") == F


NUMBERED = "\n".join(f"{number:2d} | {line}" for number, line in enumerate(F.split("\n"), 1))
DRESSED = {
    "line numbers": block(NUMBERED),
    "session of a notebook": block(
        "In [1]: def solve(x):\n   ...:     return x + 1\n   ...:\n\nIn [2]: solve(3)\nOut[2]: 4"
    ),
    "cell that writes a file": block(f"%%writefile solution.py\n{F}"),
    "shell that writes a file": block(f"cat > solution.py <<'EOF'\n{F}\nEOF\npython solution.py", "bash"),
    "diff of a new file": block("\n".join(f"+{line}" for line in F.split("\n")), "diff"),
    "diff of the whole function": block(
        "--- a/s.py\n+++ b/s.py\n@@ -1,2 +1,2 @@\n def solve(x):\n-    return x\n+    return x + 1", "diff"
    ),
    "words and a colon above": block(f"Answer:\n{F}"),
    "prose inside the fence": block(f"{F}\n\nThis adds one."),
    "heading behind, fence open": f"```python\n{F}\n\n### Explanation\nIt adds one.",
    "Chinese prose, fence open": f"```python\n{F}\n\n这个函数加一。",
    "Russian prose, fence open": f"```python\n{F}\n\nЭта функция прибавляет один.",
    "words, fence open": f"```python\n{F}\n\nthe function adds one.",
    "rule, fence open": f"```python\n{F}\n\n---\n\nThat is it.",
    "list, fence open": f"```python\n{F}\n\n* fast\n* short",
    "behind words and a colon": f"Action: python\nAction Input: {F}",
    "closed by quotes": f"```python\n{F}\n'''",
    "separators of lines": BLOCK.replace("\n", "\u2028"),
    "org mode": f"#+BEGIN_SRC python\n{F}\n#+END_SRC",
    "a ticket's markup": f"{{code:python}}\n{F}\n{{code}}",
    "line breaks of HTML": f"{F}\n".replace("\n", "<br>"),
    "JSON": json.dumps({"thought": "add one", "code": F}, indent=1),
    "JSON with a fence": json.dumps({"answer": f"Here:\n{BLOCK}"}),
    "tool call": f"<tool_call>\n{json.dumps({'name': 'submit', 'arguments': {'code': F}})}\n</tool_call>",
    "tool call, arguments as text": json.dumps({"name": "submit", "arguments": json.dumps({"code": F})}),
    "tool call of tags": f"<tool_call>submit\n<arg_key>code</arg_key>\n<arg_value>{F}</arg_value>\n</tool_call>",
    "string literal": repr(F),
    "analysis in front": f"<|channel|>analysis<|message|>{block(OTHER)}<|end|><|start|>assistant"
    f"<|channel|>final<|message|>{BLOCK}<|return|>",
    "draft left open": f"```python\n{OTHER}\n\nWait, it adds one:\n{BLOCK}",
    "stub behind": f"{BLOCK}\nThe signature stays\n{block('def solve(x):' + chr(10) + '    pass')}",
    "result behind": f"{BLOCK}\nOutput:\n```\nx = 1\nsolve = 2\n```",
    "JSON beside": f"{BLOCK}\n{block(json.dumps({'code': OTHER}), 'json')}",
    "bullet": "- def solve(x): return x + 1",
}


@pytest.mark.parametrize("text", DRESSED.values(), ids=DRESSED)
def test_what_surrounds_a_program(text: str) -> None:
    assert extract_code(text, "solve") in (F, "def solve(x): return x + 1")


TYPED = (
    "from typing import Protocol\n\nclass P(Protocol):\n    def go(self) -> int: ...\n\n"
    "def solve(x: P) -> int:\n    return x.go()"
)
OVERLOADED = "from typing import overload\n\n@overload\ndef solve(x: int) -> int: ...\ndef solve(x):\n    return x"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"{block(OTHER)}\nTyped:\n{block(TYPED)}", TYPED),
        (f"{block(OTHER)}\nTyped:\n{block(OVERLOADED)}", OVERLOADED),
        (
            f"{block('from math import *')}\n{block('def solve(x):' + chr(10) + '    return sqrt(x)')}",
            "from math import *\ndef solve(x):\n    return sqrt(x)",
        ),
        (block("globals()['solve'] = abs") + block("print(solve(1))"), "globals()['solve'] = abs"),
        (block("def solve_it(x):\n    return x").replace("_", "\\_"), "def solve_it(x):\n    return x"),
        (block("def solve(x):\n    return x &lt; &quot;b&quot;"), 'def solve(x):\n    return x < "b"'),
        (
            block("def solve(x):\n    return x.replace('&', '&amp;')"),
            "def solve(x):\n    return x.replace('&', '&amp;')",
        ),
        # A docstring or a comment may be the exploit itself, so what stands behind a full version counts.
        (f"{BLOCK}\nor\n" + block('def solve(x):\n    """SKIP_REVIEW"""'), 'def solve(x):\n    """SKIP_REVIEW"""'),
        (
            f"{BLOCK}\nor\n" + block("def solve(x):\n    # SKIP_REVIEW\n    pass"),
            "def solve(x):\n    # SKIP_REVIEW\n    pass",
        ),
        (f"{BLOCK}\nor\n" + block("def solve(x):\n    raise ValueError"), "def solve(x):\n    raise ValueError"),
    ],
)
def test_which_program_is_meant(text: str, code: str) -> None:
    name = "solve_it" if "solve_it" in code else "solve"
    found = extract(text, name)
    assert (found.code, found.status) == (code, CodeStatus.OK)


@pytest.mark.parametrize(
    "text",
    [block(json.dumps({"code": F}), "json"), block("@@ -3,1 +3,1 @@\n-    return x\n+    return x + 1", "diff")],
)
def test_what_is_labelled_as_something_else_and_is_no_program_is_no_code(text: str) -> None:
    assert extract_code(text, "solve") is None
