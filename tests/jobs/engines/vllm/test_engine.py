"""The vLLM engine's own logic over a scripted core: order, windows, swaps, identity, deaths. No vLLM is needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_contract import EngineContract, by_id, request
from safetensors.torch import load_file, save_file
from scripted_core import Script

from foreshock.errors import ForeshockError, InputError
from foreshock.jobs.engines.base import FinishReason, GenerationRequest, ScoreRequest
from foreshock.jobs.engines.vllm.core import sum_counters
from foreshock.jobs.engines.vllm.engine import VllmEngine
from foreshock.jobs.engines.vllm.identity import WrongModelError
from foreshock.jobs.records.spec import Checkpoint
from foreshock.jobs.worker import counted_since, engine_counters

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def engine(script: Script) -> Iterator[VllmEngine]:
    with VllmEngine(max_num_seqs=4) as made:
        made.start_core = script.start
        yield made


@pytest.fixture
def checkpoint(tiny: Checkpoint) -> Checkpoint:
    return tiny


@pytest.fixture(scope="module")
def other(make_checkpoint: MakeCheckpoint) -> Checkpoint:
    return make_checkpoint(step=2, seed=1)


class TestContract(EngineContract):
    pass


def ask(engine: VllmEngine, n: int = 6) -> dict[int, tuple[int, ...]]:
    return {i: r.token_ids for i, r in by_id(list(engine.generate([request(i) for i in range(n)]))).items()}


def test_nested_prefills_follow_each_other(engine: VllmEngine, script: Script, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    one, two = tuple(range(10, 30)), tuple(range(50, 70))
    prompts = [(*one, 5, 6, 7), two, one, (*two, 5), (*one, 5), (*two, 5, 6)]
    list(engine.generate([request(i, prompt_token_ids=p) for i, p in enumerate(prompts * 2)]))
    assert script.order == sorted(script.order)
    assert script.order[:2] == [one, one]


def test_the_window_bounds_what_lies_in_the_core(engine: VllmEngine, script: Script, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    results = engine.generate([request(i) for i in range(500)])
    next(results)
    assert script.most_queued == engine.options.window < 100
    assert len(list(results)) == 499
    assert script.most_queued == engine.options.window


def test_results_come_before_the_last_request_is_submitted(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    next(engine.generate([request(i) for i in range(500)]))
    assert len(script.order) == engine.options.window


def test_closing_the_iterator_drops_what_is_outstanding(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    results = engine.generate([request(i) for i in range(50)])
    next(results)
    results.close()  # a generator, which the protocol does not promise
    assert len(script.aborted) == 49
    assert len(ask(engine)) == 6


def test_stop_ends_between_micro_batches(engine: VllmEngine, script: Script, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    seen = []
    for result in engine.generate([request(i) for i in range(50)], lambda: len(seen) >= 4):
        seen.append(result)
    assert len(seen) == 6  # the micro-batch in hand is handed out whole
    assert len(script.aborted) == 44


def test_one_start_serves_checkpoints_of_one_architecture(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    answers = []
    for served in (checkpoint, other, checkpoint):
        engine.load(served)
        answers.append(ask(engine))
    assert (engine.builds, engine.swaps) == (1, 2)
    assert answers[0] == answers[2] != answers[1]
    fresh = VllmEngine()
    fresh.start_core = Script().start
    fresh.load(other)
    assert ask(fresh) == answers[1]


def test_another_architecture_starts_anew(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, make_checkpoint: MakeCheckpoint
) -> None:
    engine.load(checkpoint)
    engine.load(make_checkpoint(step=3, num_hidden_layers=1))
    assert (engine.builds, engine.swaps, script.closed) == (2, 0, 1)


def test_a_swap_that_did_not_take_is_noticed_and_the_engine_starts_anew(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    script.ignore_reloads = True
    engine.load(checkpoint)
    first = ask(engine)
    engine.load(other)
    assert (engine.builds, engine.swaps) == (2, 0)
    assert ask(engine) != first


def test_a_silent_swap_is_noticed_without_a_single_comparable_tensor(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, other: Checkpoint
) -> None:
    script.ignore_reloads = script.hide_weights = True
    engine.load(checkpoint)
    engine.load(other)
    assert (engine.builds, engine.swaps) == (2, 0)


def test_the_same_checkpoint_again_costs_nothing(engine: VllmEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    engine.load(checkpoint)
    assert (engine.builds, engine.swaps) == (1, 0)


def test_files_that_change_while_they_load_are_refused(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, other: Checkpoint, tmp_path: Path
) -> None:
    copy = Checkpoint("run", 7, tmp_path / "checkpoint-7")
    shutil.copytree(checkpoint.path, copy.path)

    def start_slowly(*arguments: object) -> object:
        shutil.copy(other.path / "model.safetensors", copy.path / "model.safetensors")
        return script.start(*arguments)  # passed on as they came

    engine.start_core = start_slowly
    with pytest.raises(WrongModelError, match="changed while they were loaded"):
        engine.load(copy)
    with pytest.raises(RuntimeError, match="load"):
        ask(engine)


def test_output_of_other_weights_is_an_error_row(engine: VllmEngine, script: Script, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    script.wrong_label = True
    (result,) = engine.generate([request(0)])
    assert result.finish_reason is FinishReason.ERROR
    assert "labelled another, not" in (result.error or "")
    (score,) = engine.score([ScoreRequest(0, (11, 12, 13), 1)], 1.0)
    assert "labelled another, not" in (score.error or "")


def test_a_dead_core_loses_only_what_was_in_flight(engine: VllmEngine, script: Script, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    expected = ask(engine, 200)
    script.die_at_steps = [script.steps + 20]
    results = by_id(list(engine.generate([request(i) for i in range(200)])))
    lost = {i for i, r in results.items() if r.error is not None}
    assert len(results) == 200
    assert 0 < len(lost) <= engine.options.window
    assert all("engine core has died" in (results[i].error or "") for i in lost)
    assert all(results[i].token_ids == expected[i] for i in results.keys() - lost)
    assert engine.builds == 2
    assert ask(engine, 200) == expected


def test_a_core_that_keeps_dying_ends_the_checkpoint(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    script.deadly_tokens = frozenset({333})
    deadly = [request(i, prompt_token_ids=(5, 333, i)) for i in range(300)]
    with pytest.raises(ForeshockError, match="died twice without finishing a request"):
        list(engine.generate(deadly))
    assert len(ask(engine)) == 6


def test_a_core_that_dies_as_the_process_is_stopped_makes_no_error_rows(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    script.die_at_steps = [script.steps + 1]
    asked: list[bool] = []

    def stop() -> bool:  # the signal arrives a moment after the core is gone
        asked.append(True)
        return len(asked) > 2

    assert list(engine.generate([request(i) for i in range(9)], stop)) == []
    assert engine.builds == 1


def test_scores_follow_the_temperature_and_generation_does_not(engine: VllmEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    before = ask(engine)
    ids = request(0, 20).prompt_token_ids
    (plain,) = engine.score([ScoreRequest(0, ids, 5)], 1.0)
    (hot,) = engine.score([ScoreRequest(0, ids, 5)], 0.5)
    assert [v + 0.1 for v in hot.logprobs] == pytest.approx([2 * (v + 0.1) for v in plain.logprobs])
    assert ask(engine) == before
    (again,) = engine.score([ScoreRequest(0, ids, 5)], 1.0)
    assert again == plain


def test_scores_that_ignore_the_temperature_are_refused(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    script.ignore_temperature = True
    with pytest.raises(ForeshockError, match=r"do not follow temperature 0\.5"):
        list(engine.score([ScoreRequest(0, (11, 12, 13), 1)], 0.5))


def test_a_core_that_dies_while_scoring_scores_at_the_same_temperature_afterwards(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    requests = [ScoreRequest(i, (*request(i, 9).prompt_token_ids, i), 3) for i in range(200)]
    expected = {r.request_id: r for r in engine.score(requests, 0.5)}
    script.die_at_steps = [script.steps + 20]
    results = {r.request_id: r for r in engine.score(requests, 0.5)}
    assert 0 < sum(r.error is not None for r in results.values()) <= engine.options.window
    assert all(results[i] == expected[i] for i in results if results[i].error is None)


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_temperatures_that_vllm_would_bend_are_refused_alone(
    engine: VllmEngine, checkpoint: Checkpoint, temperature: float
) -> None:
    engine.load(checkpoint)
    results = by_id(list(engine.generate([request(0), request(1, temperature=temperature)])))
    assert results[0].error is None
    assert "valid: 0, or 0.01 to 2.0" in (results[1].error or "")


def test_prompts_that_do_not_fit_are_refused_alone_and_long_limits_end_with_the_context(
    engine: VllmEngine, checkpoint: Checkpoint
) -> None:
    engine.load(checkpoint)
    results = by_id(list(engine.generate([request(0, 512), request(1, 500, max_tokens=32_000), request(2)])))
    assert "do not fit the model's context of 512" in (results[0].error or "")
    assert len(results[1].token_ids) == 12
    assert results[1].finish_reason is FinishReason.LENGTH
    assert results[2].error is None
    scored = {
        r.request_id: r
        for r in engine.score(
            [ScoreRequest(i, request(0, n).prompt_token_ids, 4) for i, n in enumerate((512, 511))], 1.0
        )
    }
    assert "fill the context" in (scored[0].error or "")
    assert scored[1].error is None


def test_seeds_and_limits_reach_the_core(engine: VllmEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    one = GenerationRequest(0, (5, 6, 7), seed=2**63 - 1, max_tokens=9, temperature=0.7, top_p=0.9, stop_token_ids=(4,))
    sent = engine._to_core("k", one)
    assert (sent.seed, sent.max_tokens, sent.temperature, sent.top_p) == (2**63 - 1, 9, 0.7, 0.9)
    assert sent.stop_token_ids == (4,)


# -- adapters


def test_adapters_of_one_base_share_one_start(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, make_adapter: MakeCheckpoint
) -> None:
    answers = []
    for served in (make_adapter(checkpoint, 1), make_adapter(checkpoint, 2), checkpoint):
        engine.load(served)
        answers.append(ask(engine))
    assert script.started == [(checkpoint.path.resolve(), 8)]
    assert len({tuple(sorted(answer.items())) for answer in answers}) == 3
    assert engine.builds == 1


def test_a_larger_rank_starts_anew_and_a_smaller_one_does_not(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, make_adapter: MakeCheckpoint
) -> None:
    for rank in (4, 16, 4):
        engine.load(make_adapter(checkpoint, rank, rank=rank))
    assert [rank for _, rank in script.started] == [8, 16]


def test_once_prompts_are_scored_adapters_are_merged(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, make_adapter: MakeCheckpoint
) -> None:
    """vLLM gives no log-probabilities of a prompt where it can serve adapters: its core ends (0.32, CPU)."""
    one, two = make_adapter(checkpoint, 1), make_adapter(checkpoint, 2)
    engine.load(one)
    served = ask(engine)
    for adapter in (one, two, one):
        engine.load(adapter)
        assert [result.error for result in engine.score([ScoreRequest(0, (5, 6, 7), 1)], 1.0)] == [None]
        assert Path(engine._running().call("foreshock_weights_path")).parent.name.startswith("foreshock-merged-")
    assert ask(engine).keys() == served.keys()
    assert [rank for _, rank in script.started] == [8, None]


WHY = ["refused by vLLM", "replaces whole modules", "asked for", "rank too large", "ranks by module", "output layer"]


@pytest.mark.parametrize("why", WHY)
def test_adapters_that_cannot_be_served_are_merged(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint, make_adapter: MakeCheckpoint, why: str
) -> None:
    script.refuse_adapters = why == "refused by vLLM"
    if why == "asked for":
        engine = VllmEngine(serve_adapters=False)
        engine.start_core = script.start
    changes: dict[str, Any] = {"modules_to_save": ["lm_head"]} if why == "replaces whole modules" else {}
    if why == "ranks by module":  # vLLM would give all modules the scale of the first
        changes = {"alpha_pattern": {"q_proj": 3}}
    if why == "output layer":
        changes = {"modules": ("self_attn.q_proj", "lm_head")}
    engine.load(make_adapter(checkpoint, 9, rank=600 if why == "rank too large" else 4, **changes))
    served = Path(engine._running().call("foreshock_weights_path"))
    assert served.parent.name.startswith("foreshock-merged-")
    assert len(ask(engine)) == 6
    engine.close()
    assert not served.exists()


def test_a_row_drawn_from_logits_that_are_not_finite_is_an_error(
    engine: VllmEngine, script: Script, checkpoint: Checkpoint
) -> None:
    script.not_finite = frozenset({77})
    engine.load(checkpoint)
    sick, well = engine.generate([request(0, prompt_token_ids=(5, 77)), request(1, prompt_token_ids=(5, 78))])
    assert (sick.request_id, sick.finish_reason) == (0, FinishReason.ERROR)
    assert sick.error == "the model's logits are not finite"
    assert well.error is None


def test_what_vllm_computes_otherwise_than_transformers_is_refused(
    engine: VllmEngine, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    tied = make_checkpoint(seed=3, tie_word_embeddings=True)
    shutil.copytree(tied.path, tmp_path / "checkpoint-1")
    file = tmp_path / "checkpoint-1" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] * 2}, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"tie_word_embeddings true, but .* differ"):
        engine.load(Checkpoint("run", 1, tmp_path / "checkpoint-1"))
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(InputError, match="rotary frequencies are dynamic"):
        engine.load(make_checkpoint(rope_parameters=rope))


def test_what_vllm_counts_is_summed_over_its_engines_under_our_names() -> None:
    """Objects as vLLM's `get_metrics_snapshot` gives them (vllm/v1/metrics/reader.py): counters, gauges, histograms."""
    found = [
        SimpleNamespace(name="vllm:prefix_cache_queries", labels={"engine": "0"}, value=1000),
        SimpleNamespace(name="vllm:prefix_cache_queries", labels={"engine": "1"}, value=200),
        SimpleNamespace(name="vllm:prefix_cache_hits", labels={"engine": "0"}, value=600),
        SimpleNamespace(name="vllm:generation_tokens", labels={"engine": "0"}, value=5000),
        SimpleNamespace(name="vllm:kv_cache_usage_perc", labels={"engine": "0"}, value=0.5),
        SimpleNamespace(name="vllm:iteration_tokens_total", labels={}, count=7, sum=10.0, buckets={"+Inf": 7}),
    ]
    assert sum_counters(found) == {"prefix_queries": 1200, "prefix_hits": 600, "engine_tokens": 5000}


def test_a_tasks_counts_are_what_came_since_even_if_the_core_began_anew(
    engine: VllmEngine, checkpoint: Checkpoint
) -> None:
    assert engine_counters(engine) == {}
    engine.load(checkpoint)
    before = engine_counters(engine)
    ask(engine)
    since = counted_since(before, engine_counters(engine))
    assert since["prefix_hits"] == 0.4 * since["prefix_queries"] > 0
    assert counted_since({"prefix_hits": 100}, {"prefix_hits": 7}) == {"prefix_hits": 7.0}
