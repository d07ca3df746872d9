"""Ending a request of vLLM by what its tokens say.

VLLM's own detokenizer is told what to answer, where it would report a stop string. vLLM then ends the request itself,
in the core too, and labels its tokens with the weights that made them. vLLM's own stop strings need its own
tokenizer, and one of the first checkpoint only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Until = Callable[[Sequence[int]], bool]
"""Whether the tokens drawn so far end the continuation."""


def end_when(engine: Any, key: str, until: Until) -> None:
    """Have vLLM's LLMEngine end the request `key`, just added, as stopped when `until` says so."""
    states = engine.output_processor
    (internal,) = states.external_req_ids[key]
    detokenizer = states.request_states[internal].detokenizer

    def update(new_token_ids: Sequence[int], stop_terminated: bool) -> str | None:
        for i, token in enumerate(new_token_ids, start=1):
            detokenizer.token_ids.append(token)
            is_stop_token = stop_terminated and i == len(new_token_ids)
            if not is_stop_token and until(detokenizer.token_ids):
                return "until"
        return None

    detokenizer.update = update
