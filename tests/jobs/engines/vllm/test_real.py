"""The vLLM engine over vLLM itself: the contract, agreement with transformers, swaps, adapters, deaths.

One engine start takes tens of seconds, so all tests share one and each loads what it needs into it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_contract import EngineContract, by_id, request
from safetensors.torch import load_file, save_file

from foreshock.jobs.engines.base import NOT_FINITE, GenerationRequest, ScoreRequest
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.engines.vllm.engine import VllmEngine
from foreshock.jobs.records.spec import Checkpoint

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),  # vLLM's own imports warn
    pytest.mark.xdist_group("vllm"),
]

DEVICE = os.environ.get("FORESHOCK_TEST_DEVICE", "cpu")
OPTIONS: dict[str, Any] = {"device": DEVICE, "enforce_eager": True, "max_num_seqs": 32, "kv_cache_memory_bytes": 2**28}


@pytest.fixture(scope="module")
def shared() -> Iterator[VllmEngine]:
    with VllmEngine(**OPTIONS) as made:
        yield made


@pytest.fixture
def engine(shared: VllmEngine) -> VllmEngine:
    """The shared engine as if nothing were loaded: its core stays, as it does between checkpoints."""
    shared._checkpoint = None
    return shared


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    return make_checkpoint(head_dim=32)  # vLLM's CPU kernels have no smaller heads


@pytest.fixture(scope="module")
def other(make_checkpoint: Callable[..., Checkpoint]) -> Checkpoint:
    return make_checkpoint(step=2, seed=1, head_dim=32)


@pytest.fixture(scope="module")
def reference() -> Iterator[TransformersEngine]:
    with TransformersEngine(device="cpu") as made:
        yield made


class TestContract(EngineContract):
    pass


def prompts(n: int) -> list[tuple[int, ...]]:
    rng = random.Random(3)
    return [tuple(rng.randrange(5, 400) for _ in range(rng.choice([3, 16, 17, 40, 130]))) for _ in range(n)]


def greedy(engine: Any) -> dict[int, tuple[int, ...]]:
    requests = [
        GenerationRequest(i, p, seed=i, max_tokens=24, temperature=0.0, stop_token_ids=(2,))
        for i, p in enumerate(prompts(12))
    ]
    results = by_id(list(engine.generate(requests)))
    assert all(result.error is None for result in results.values())
    return {i: result.token_ids for i, result in results.items()}


def scores(engine: Any, temperature: float) -> dict[int, tuple[float, ...]]:
    requests = [ScoreRequest(i, p, 2) for i, p in enumerate(prompts(12))]
    results = list(engine.score(requests, temperature))
    assert all(result.error is None for result in results)
    return {result.request_id: result.logprobs for result in results}


def test_agrees_with_transformers_after_every_swap(
    engine: VllmEngine, reference: TransformersEngine, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    """A swapped model must answer as transformers does for that checkpoint, which no other weights would."""
    engine.load(checkpoint)
    builds = engine.builds
    for served in (checkpoint, other, checkpoint):
        engine.load(served)
        reference.load(served)
        assert greedy(engine) == greedy(reference)
        for temperature in (1.0, 0.6, 1.7):
            ours, theirs = scores(engine, temperature), scores(reference, temperature)
            for i, values in ours.items():
                assert abs(sum(values) - sum(theirs[i])) < 1e-3 * len(values)
                assert values == pytest.approx(theirs[i], abs=1e-3)
    assert engine.builds == builds
    assert len(engine._identity.comparable) >= 5  # norms and embeddings at least; a CPU repacks the rest


def test_tied_output_layers_are_swapped_too(
    engine: VllmEngine, reference: TransformersEngine, make_checkpoint: Callable[..., Checkpoint]
) -> None:
    """vLLM keeps a packed copy of them on a CPU, which its own reloading leaves as it was."""
    tied = [make_checkpoint(step=s, seed=s, head_dim=32, tie_word_embeddings=True) for s in (11, 12)]
    for served in (*tied, tied[0]):
        engine.load(served)
        reference.load(served)
        ours, theirs = scores(engine, 1.0), scores(reference, 1.0)
        for i, values in ours.items():
            assert values == pytest.approx(theirs[i], abs=1e-3)
    assert "output" in engine._identity.comparable


def test_scores_do_not_come_from_the_prefix_cache(engine: VllmEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    fresh = scores(engine, 1.0)
    greedy(engine)  # leaves the same prompts in the cache
    assert scores(engine, 1.0) == fresh
    assert all(len(fresh[i]) == len(p) - 2 for i, p in enumerate(prompts(12)))


def test_the_prefix_cache_does_not_outlive_a_swap(
    engine: VllmEngine, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    answers = []
    for served in (checkpoint, other, checkpoint):
        engine.load(served)
        answers.append(greedy(engine))
        assert greedy(engine) == answers[-1]  # now from the cache
    assert answers[0] == answers[2] != answers[1]


@pytest.mark.parametrize(
    ("name", "value", "sick"),
    [("model.embed_tokens.weight", float("nan"), {1, 3}), ("lm_head.weight", float("inf"), {0, 1, 2, 3})],
)
def test_rows_drawn_from_logits_that_are_not_finite_are_errors(
    engine: VllmEngine, checkpoint: Checkpoint, tmp_path: Path, name: str, value: float, sick: set[int]
) -> None:
    """Where the numbers of one token alone are broken: the rows that hold it; of an output, all."""
    path = tmp_path / "checkpoint-1"
    shutil.copytree(checkpoint.path, path)
    tensors = load_file(path / "model.safetensors")
    tensors[name][77] = value
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    engine.load(Checkpoint("run", 1, path))
    requests = [GenerationRequest(i, (9, 77 if i % 2 else 78, 11), i, 4, temperature=i / 3) for i in range(4)]
    found = by_id(list(engine.generate(requests)))
    assert [found[i].error for i in range(4)] == [NOT_FINITE if i in sick else None for i in range(4)]


def test_samples_follow_the_same_distribution(
    engine: VllmEngine, reference: TransformersEngine, checkpoint: Checkpoint
) -> None:
    """Chi-square test of the first token over the likeliest ones, two samples, refused at 1%."""
    from collections import Counter

    from scipy.stats import chi2_contingency

    prompt = request(0, 12).prompt_token_ids
    requests = [GenerationRequest(i, prompt, seed=10_000 + i, max_tokens=1, temperature=1.0) for i in range(1500)]
    counts = []
    for made in (engine, reference):
        made.load(checkpoint)
        counts.append(Counter(result.token_ids[0] for result in made.generate(requests)))
    likely = [token for token, n in (counts[0] + counts[1]).items() if n >= 20]
    table = [[c[token] for token in likely] + [sum(c.values()) - sum(c[t] for t in likely)] for c in counts]
    table = [list(row) for row in zip(*[column for column in zip(*table, strict=True) if sum(column)], strict=True)]
    assert chi2_contingency(table).pvalue > 0.01


def test_more_prompts_than_a_micro_batch_takes_are_drawn_by_their_seeds_alone(
    engine: VllmEngine, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    builds = engine.builds
    rng = random.Random(4)
    many = [
        request(i, prompt_token_ids=tuple(rng.randrange(5, 400) for _ in range(rng.randrange(100, 200))))
        for i in range(120)
    ]
    together = by_id(list(engine.generate(many)))
    assert {result.error for result in together.values()} == {None}
    assert engine.builds == builds
    for i in (0, 57, 119):
        assert next(iter(engine.generate([many[i]]))) == together[i]


def test_nucleus_sampling_keeps_to_the_nucleus(
    engine: VllmEngine, reference: TransformersEngine, checkpoint: Checkpoint
) -> None:
    prompt = request(0, 12).prompt_token_ids
    requests = [GenerationRequest(i, prompt, seed=i, max_tokens=1, top_p=0.3) for i in range(400)]
    drawn = []
    for made in (engine, reference):
        made.load(checkpoint)
        drawn.append({result.token_ids[0] for result in made.generate(requests)})
    assert drawn[0] == drawn[1]


def test_an_abandoned_generation_leaves_the_engine_usable(
    engine: VllmEngine, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    engine.load(checkpoint)
    expected = greedy(engine)
    builds = engine.builds
    results = engine.generate([request(i, max_tokens=300) for i in range(200)])
    next(results)
    results.close()  # a generator, which the protocol does not promise
    engine.load(other)
    engine.load(checkpoint)
    assert greedy(engine) == expected
    assert engine.builds == builds


def test_adapters_are_served_over_one_base_until_prompts_are_scored(
    reference: TransformersEngine, checkpoint: Checkpoint, make_adapter: Callable[..., Checkpoint]
) -> None:
    one, two = make_adapter(checkpoint, 1), make_adapter(checkpoint, 2, use_rslora=True)
    with VllmEngine(**OPTIONS) as engine:
        for served in (one, two, one):
            engine.load(served)
            reference.load(served)
            assert greedy(engine) == greedy(reference)
        assert engine.builds == 1
        for served in (one, two):
            engine.load(served)
            reference.load(served)
            ours, theirs = scores(engine, 0.8), scores(reference, 0.8)
            assert all(values == pytest.approx(theirs[i], abs=2e-3) for i, values in ours.items())
            assert greedy(engine) == greedy(reference)
        assert engine.builds == 2


def test_merged_adapters_agree_too(
    shared: VllmEngine, reference: TransformersEngine, checkpoint: Checkpoint, make_adapter: Callable[..., Checkpoint]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    adapter = make_adapter(checkpoint, 5, modules_to_save=["lm_head"])
    file = adapter.path / "adapter_model.safetensors"
    head = load_file(checkpoint.path / "model.safetensors")["lm_head.weight"] + 0.1 * torch.randn(1)
    save_file(load_file(file) | {"base_model.model.lm_head.modules_to_save.weight": head}, file)
    shared.load(adapter)
    reference.load(adapter)
    assert greedy(shared) == greedy(reference)


def test_a_killed_core_loses_only_what_was_in_flight(engine: VllmEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    expected = greedy(engine)
    builds = engine.builds
    results = engine.generate([request(i, max_tokens=200) for i in range(300)])
    first = next(results)
    for pid in descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    found = by_id([first, *results])
    lost = [r for r in found.values() if r.error is not None]
    assert len(found) == 300
    assert 0 < len(lost) <= engine.options.window
    assert all("engine core" in (r.error or "") for r in lost)
    assert engine.builds == builds + 1
    assert greedy(engine) == expected


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    found = [int(child) for child, parent, args in rows if int(parent) == pid and ("spawn" in args or "VLLM" in args)]
    return found + [deeper for child in found for deeper in descendants(child)]
