"""The tokens with which a model's turn ends after its answer, as one that is trained has to write them."""

from __future__ import annotations

from foreshock.errors import InputError
from foreshock.jobs.prompts.base import PromptFormat
from foreshock.jobs.prompts.settings import PromptSettings
from foreshock.jobs.prompts.tokenizer import Tokenizer, encode_prompt
from foreshock.jobs.prompts.turns import Turns


def turn_end(
    prompt_format: PromptFormat, tokenizer: Tokenizer, settings: PromptSettings, system: str | None = None
) -> tuple[int, ...]:
    """Token ids from the end of the answer to the first token that ends a continuation, that one included.

    The chat template shows them; without one it is the tokenizer's end token. Raises InputError where neither ends in a
    token that the prompt format stops at: a model trained on it would not be seen to have finished.
    """
    ends = {*prompt_format.stop_token_ids, *(number for late in prompt_format.late_stops for number in late.token_ids)}
    if tokenizer.chat_template and prompt_format.name != "plain":
        turn = Turns(tokenizer, settings, system).plain()
        for after in (turn.after_last, turn.after_earlier or "") if turn is not None else ():
            ids = encode_prompt(tokenizer, after)
            place = next((i for i, number in enumerate(ids) if number in ends), None)
            if place is not None:
                return ids[: place + 1]
    own = tokenizer.eos_token_id
    if own is not None and own in ends:
        return (int(own),)
    raise InputError(
        "neither the chat template nor the tokenizer shows which token ends the model's turn, so an answer to train on "
        "would have no end",
        fix="save the tokenizer with its eos_token",
    )
