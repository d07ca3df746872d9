"""The answer of a stored row is found without its model's tokenizer."""

from __future__ import annotations

import pytest

from foreshock.jobs.answers.extract import extract
from foreshock.jobs.answers.text_to_read import stored_text_to_read

BLOCK = "```python\ndef solve(x):\n    return x\n```"


@pytest.mark.parametrize(
    ("response", "reasoning", "prefill", "expected"),
    [
        (f" think</think>\n\n{BLOCK}", "I think", "I", True),
        (f" think\n[/THINK]{BLOCK}", "I think\n", "I", True),
        (f" think<|END_THINKING|><|START_RESPONSE|>{BLOCK}", "I think", "I", True),
        (" think and think", "I think and think", "I", False),
        (f"{BLOCK}\nDone.", "I", "I", True),
        (f" say:\n{BLOCK}", "I say:\n", "I", True),
        (f"x<|end|><|start|>assistant<|channel|>final<|message|>{BLOCK}<|return|>", "Ix", "I", True),
        (f"{BLOCK}<|end|><|start|>assistant<|channel|>final<|message|>Sorry.<|return|>", BLOCK, "", False),
        ("ve(x):\n    return x\n```", "```python\ndef sol", "```python\ndef sol", True),
        (f"{BLOCK} no</think>Sorry.", f"{BLOCK} no", "", False),
    ],
)
def test_the_answer_of_a_row(response: str, reasoning: str, prefill: str, expected: bool) -> None:
    found = extract(stored_text_to_read(response, reasoning, prefill), "solve")
    assert (found.code == "def solve(x):\n    return x") is expected
    assert (found.code is None) is not expected
