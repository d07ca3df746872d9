"""Problems whose texts hold the tokenizer's own control tokens: the model reads those as the end of a turn, or as
reasoning begun, and not as text."""

from __future__ import annotations

from collections.abc import Iterator

from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prompts.markers import control_tokens, find_controls
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.prompts.tokenizer import Tokenizer


def control_token_notes(inputs: RunInputs, instructions: str, tokenizer: Tokenizer) -> list[str]:
    """One line that says how many problems hold control tokens, and which; empty if none does."""
    found = list(_found(inputs, instructions, tokenizer))
    if not found:
        return []
    task, token = found[0]
    return [
        f"{len(found)} of {len(inputs.problems)} problems hold control tokens of the tokenizer, which the model reads "
        f"as such (first: {token!r} in task {task!r}); look at `foreshock prompt CONFIG.yaml --task {task}`"
    ]


def _found(inputs: RunInputs, instructions: str, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    controls = control_tokens(tokenizer)
    for task, problem in inputs.problems.items():
        marks = find_controls(build_user_message(problem, instructions), controls)
        if marks:
            yield task, marks[0][1]
