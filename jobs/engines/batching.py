"""Which requests share a padded batch.

Chunks are a function of the set of requests alone, and survive the removal of whole chunks. Requests of one
`batch_key` are sorted by (total length, given order) and cut greedily; because the cost of a batch grows with its
last member, dropping a finished chunk leaves every other chunk as it was. A resumed spec therefore rebuilds the very
batches of an uninterrupted one, which is what makes its rows bitwise equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from foreshock.jobs.engines.base import GenerationRequest

T = TypeVar("T")


def length_sorted_chunks(
    items: Sequence[T], length: Callable[[T], int], max_rows: int, max_tokens: int
) -> Iterator[list[T]]:
    """Cut `items`, shortest first, into chunks of at most `max_rows` rows and `max_tokens` padded tokens.

    A chunk's padded tokens are rows x its longest member. A single item above `max_tokens` is a chunk of its own.
    """
    chunk: list[T] = []
    for item in sorted(items, key=length):  # stable: equal lengths keep the given order
        if chunk and (len(chunk) >= max_rows or (len(chunk) + 1) * length(item) > max_tokens):
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk


def generation_chunks(
    requests: Sequence[GenerationRequest],
    max_rows: int,
    max_tokens: int,
    *,
    by_exact_length: bool = False,
    across_keys: bool = False,
) -> Iterator[list[GenerationRequest]]:
    """Chunks for generation; padded tokens count the tokens still to be generated.

    `across_keys` mixes batch keys, which only an engine whose rows do not depend on their batch may do.
    `by_exact_length` also keeps prompts of different lengths apart, for models that cannot take padding.
    """
    groups: dict[tuple[str, int], list[GenerationRequest]] = {}
    for request in requests:
        exact = len(request.prompt_token_ids) if by_exact_length else -1
        groups.setdefault(("" if across_keys else request.batch_key, exact), []).append(request)
    for group in groups.values():
        yield from length_sorted_chunks(group, lambda r: len(r.prompt_token_ids) + r.max_tokens, max_rows, max_tokens)
