"""Sampling: the right distribution from each row's own numbers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from foreshock.jobs.engines.base import GenerationRequest
from foreshock.jobs.engines.batching import generation_chunks, length_sorted_chunks
from foreshock.jobs.engines.sampling import UniformStreams, pick_tokens


def pick(logits: torch.Tensor, uniforms: list[float], temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    n = len(uniforms)
    full = torch.full((n,), temperature, dtype=torch.float64), torch.full((n,), top_p, dtype=torch.float64)
    return pick_tokens(logits.expand(n, -1), *full, torch.tensor(uniforms, dtype=torch.float64)).tolist()


def test_a_grid_of_uniforms_gives_the_distribution() -> None:
    probabilities = torch.tensor([0.1, 0.0, 0.55, 0.35])
    drawn = pick(probabilities.log(), [(i + 0.5) / 1000 for i in range(1000)])
    assert [drawn.count(token) for token in range(4)] == [100, 0, 550, 350]


def test_temperature_sharpens_and_zero_is_greedy() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    grid = [(i + 0.5) / 500 for i in range(500)]
    expected = (logits.double() / 0.5).softmax(-1) * 500
    drawn = pick(logits, grid, temperature=0.5)
    assert all(abs(drawn.count(token) - float(expected[token])) <= 1 for token in range(3))
    assert pick(logits, grid, temperature=0.0) == [2] * 500


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass() -> None:
    probabilities = torch.tensor([0.05, 0.5, 0.15, 0.3])
    grid = [(i + 0.5) / 800 for i in range(800)]
    drawn = pick(probabilities.log(), grid, top_p=0.7)
    assert [drawn.count(token) for token in range(4)] == [0, 500, 0, 300]
    assert set(pick(probabilities.log(), grid, top_p=1e-9)) == {1}


def test_extreme_uniforms_never_draw_an_impossible_token() -> None:
    logits = torch.tensor([float("-inf"), 0.0, 3.0, float("-inf")])
    assert pick(logits, [0.0, 1 - 2**-53, 1.0]) == [1, 2, 2]


def test_streams_depend_on_the_seed_alone() -> None:
    streams = UniformStreams([5, 6, 2**63 - 1])
    first = [streams.next(np.array([0, 1, 2])) for _ in range(300)]
    other = UniformStreams([6])
    assert [values[1] for values in first] == [float(other.next(np.array([0]))[0]) for _ in range(300)]
    repeated = UniformStreams([6, 9])
    assert [float(repeated.next(np.array([0, 0, 0]))[2]) for _ in range(300)] == [values[1] for values in first]
    assert len({tuple(values) for values in first}) == 300
    assert all(0 <= value < 1 for values in first for value in values)


sizes = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30), st.sampled_from("ab")), max_size=50)


@given(sizes=sizes, rows=st.integers(1, 8), tokens=st.integers(20, 300), data=st.data())
def test_removing_whole_chunks_leaves_the_others_as_they_were(
    sizes: list[tuple[int, int, str]], rows: int, tokens: int, data: st.DataObject
) -> None:
    requests = [GenerationRequest(i, (1,) * n, 0, max_tokens=m, batch_key=key) for i, (n, m, key) in enumerate(sizes)]
    chunks = list(generation_chunks(requests, rows, tokens))
    assert sorted(r.request_id for chunk in chunks for r in chunk) == list(range(len(requests)))
    for chunk in chunks:
        longest = max(len(r.prompt_token_ids) + r.max_tokens for r in chunk)
        assert len(chunk) <= rows
        assert len(chunk) == 1 or len(chunk) * longest <= tokens
        assert len({r.batch_key for r in chunk}) == 1
    removed = data.draw(st.sets(st.integers(0, max(0, len(chunks) - 1))))
    kept = [chunk for i, chunk in enumerate(chunks) if i not in removed]
    left = {r.request_id for chunk in kept for r in chunk}
    again = list(generation_chunks([r for r in requests if r.request_id in left], rows, tokens))
    assert sorted(again, key=lambda chunk: chunk[0].request_id) == sorted(kept, key=lambda chunk: chunk[0].request_id)


def test_chunks_are_length_sorted_and_stable() -> None:
    chunks = list(length_sorted_chunks(["ccc", "a", "bbb", "dd"], len, 2, 100))
    assert chunks == [["a", "dd"], ["ccc", "bbb"]]


def test_exact_lengths_and_mixed_keys_on_request() -> None:
    requests = [GenerationRequest(i, (1,) * (1 + i % 2), 0, 5, batch_key=str(i)) for i in range(6)]
    exact = list(generation_chunks(requests, 10, 1000, by_exact_length=True, across_keys=True))
    assert [[r.request_id for r in chunk] for chunk in exact] == [[0, 2, 4], [1, 3, 5]]
    assert len(list(generation_chunks(requests, 10, 1000, across_keys=True))) == 1
