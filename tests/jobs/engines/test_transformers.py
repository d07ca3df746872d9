"""The transformers engine: contract, exactness against plain forward passes, independence of batches, loading."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_contract import EngineContract, by_id, request

from foreshock.jobs.engines.base import FinishReason, GenerationRequest, ScoreRequest
from foreshock.jobs.engines.decoding import DecodeMode, choose_mode
from foreshock.jobs.engines.forward import LogitsModel
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.model_files.fingerprint import CheckpointError
from foreshock.jobs.records.spec import Checkpoint

ARCHITECTURES = ["llama", "qwen3", "mistral", "gpt_oss", "gemma2", "gpt2"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def engine() -> Iterator[TransformersEngine]:
    with TransformersEngine(device="cpu", batch_size=5) as made:
        yield made


@pytest.fixture
def checkpoint(tiny: Checkpoint) -> Checkpoint:
    return tiny


class TestContract(EngineContract):
    pass


def requests_of_many_lengths(n: int, vocabulary: int = 400) -> list[GenerationRequest]:
    """Requests whose lengths straddle every padding step; every third prompt is shared by two requests."""
    rng = random.Random(5)
    found: list[GenerationRequest] = []
    for i in range(n):
        prompt = tuple(rng.randrange(5, vocabulary) for _ in range(rng.choice([3, 15, 16, 17, 40, 64, 65, 130])))
        if i % 3 == 2:
            prompt = found[-1].prompt_token_ids
        found.append(GenerationRequest(i, prompt, seed=77 * i, max_tokens=rng.choice([2, 9, 30]), stop_token_ids=(2,)))
    return found


def load_reference(checkpoint: Checkpoint) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()


def brute_force_logprobs(model: Any, ids: tuple[int, ...], start: int, temperature: float) -> list[float]:
    """log softmax(logits / temperature) of each token from `start`, one sequence, nothing shared."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double() / temperature
    logprobs = logits.log_softmax(-1)
    return [float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids))]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_decoding_equals_step_by_step_forward_passes(
    make_checkpoint: Callable[..., Checkpoint], architecture: str
) -> None:
    checkpoint = make_checkpoint(architecture)
    model = load_reference(checkpoint)
    lengths = [3, 17, 30, 17, 9, 40]
    requests = [request(i, n, temperature=0.0, max_tokens=12) for i, n in enumerate(lengths)]
    with TransformersEngine(device="cpu", batch_size=4) as engine:
        engine.load(checkpoint)
        assert engine.decode_mode == "ragged"
        results = by_id(list(engine.generate(requests)))
    for r in requests:
        ids = list(r.prompt_token_ids)
        for token in results[r.request_id].token_ids:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            assert float(logits[token]) >= float(logits.max()) - 1e-4
            ids.append(token)
        assert len(ids) == len(r.prompt_token_ids) + 12


@pytest.mark.parametrize(
    ("architecture", "temperature"), [*zip(ARCHITECTURES, [1.0, 0.6] * 3, strict=True), ("llama", 0.6)]
)
def test_scores_equal_brute_force_to_1e_4(
    make_checkpoint: Callable[..., Checkpoint], architecture: str, temperature: float
) -> None:
    checkpoint = make_checkpoint(architecture)
    model = load_reference(checkpoint)
    shapes = [(12, 5), (40, 1), (17, 16), (90, 30), (33, 8), (33, 9), (40, 20)]
    requests = [ScoreRequest(i, request(i, n).prompt_token_ids, s) for i, (n, s) in enumerate(shapes)]
    with TransformersEngine(device="cpu", max_logits=3000) as engine:
        engine.load(checkpoint)
        results = {r.request_id: r for r in engine.score(requests, temperature)}
    for r in requests:
        expected = brute_force_logprobs(model, r.token_ids, r.prefill_start, temperature)
        assert results[r.request_id].logprobs == pytest.approx(expected, abs=5e-5)
        assert math.fsum(results[r.request_id].logprobs) == pytest.approx(math.fsum(expected), abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
def test_rows_are_bitwise_the_same_in_any_batch(make_checkpoint: Callable[..., Checkpoint], architecture: str) -> None:
    requests = requests_of_many_lengths(36)
    scores = [ScoreRequest(r.request_id, r.prompt_token_ids, 2) for r in requests]
    shuffled = list(requests)
    random.Random(1).shuffle(shuffled)
    with TransformersEngine(device="cpu", batch_size=512) as engine:
        engine.load(make_checkpoint(architecture))
        assert engine.batch_rows is None
        generated = by_id(list(engine.generate(requests)))
        scored = {r.request_id: r for r in engine.score(scores, 1.0)}
        for size, order in ((1, requests[:8]), (7, shuffled), (32, list(reversed(requests)))):
            engine.batch_size = size
            wanted = {r.request_id for r in order}
            assert by_id(list(engine.generate(order))) == {i: generated[i] for i in wanted}
            again = engine.score([s for s in scores if s.request_id in wanted], 1.0)
            assert {r.request_id: r for r in again} == {i: scored[i] for i in wanted}


def test_resuming_after_whole_chunks_repeats_the_rest_bit_for_bit(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    """Holds for a model whose rows do depend on their batch: mixture-of-experts products have few rows."""
    requests = requests_of_many_lengths(40)
    with TransformersEngine(device="cpu", batch_size=6) as engine:
        engine.load(make_checkpoint("gpt_oss"))
        order = list(engine.generate(requests))
        complete = by_id(order)
        finished = {r.request_id for r in order[6:18]}  # the second and third chunk
        rest = by_id(list(engine.generate([r for r in requests if r.request_id not in finished])))
    assert rest == {i: r for i, r in complete.items() if i not in finished}


def test_sampled_frequencies_follow_the_models_distribution(tiny: Checkpoint) -> None:
    prompt = request(0, 12).prompt_token_ids
    with TransformersEngine(device="cpu") as engine:
        engine.load(tiny)
        drawn = [
            r.token_ids[0]
            for r in engine.generate([request(i, max_tokens=1, temperature=1.3, seed=i) for i in range(3000)])
        ]
    with torch.no_grad():
        expected = (load_reference(tiny)(torch.tensor([prompt])).logits[0, -1].double() / 1.3).softmax(-1)
    for token in expected.topk(5).indices.tolist():
        p = float(expected[token])
        sigma = math.sqrt(p * (1 - p) / 3000)
        assert drawn.count(token) / 3000 == pytest.approx(p, abs=4.5 * sigma)


def test_equal_prompts_are_read_once(engine: TransformersEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    engine.batch_size = 64
    seen: list[tuple[int, ...]] = []
    model = engine._loaded().model
    handle = model.get_input_embeddings().register_forward_hook(lambda m, args, out: seen.append(args[0].shape))
    list(engine.generate([request(i, 16, seed=i, max_tokens=3) for i in range(9)]))
    handle.remove()
    assert [shape[0] for shape in seen] == [1, 9, 9]


def test_many_levels_of_many_traces_cost_one_sequence_each(engine: TransformersEngine, checkpoint: Checkpoint) -> None:
    from foreshock.jobs.prompts.base import RenderedPrompt
    from foreshock.jobs.scoring.levels import plan_scoring

    ids = request(0, 60).prompt_token_ids
    traces = {
        name: {n: RenderedPrompt((*ids[:9], offset, *ids[10 : 10 + n]), 10, "") for n in (0, 2, 5, 10, 20, 30)}
        for name, offset in (("a", 20), ("b", 30), ("c", 40))
    }
    engine.load(checkpoint)
    plan = plan_scoring(traces)
    scores = plan.collect(engine.score(plan.requests, 1.0))
    assert engine.scored_sequences == 3
    assert engine.forward_count == 1
    model = load_reference(checkpoint)
    for name, levels in traces.items():
        for level, prompt in levels.items():
            brute = math.fsum(brute_force_logprobs(model, prompt.token_ids, 10, 1.0))
            assert scores[name][level].logprob_sum == pytest.approx(brute, abs=1e-4)


def test_same_architecture_swaps_weights_in_place(make_checkpoint: Callable[..., Checkpoint]) -> None:
    first, second = make_checkpoint(seed=1, step=1), make_checkpoint(seed=2, step=2)
    requests = [request(i) for i in range(4)]
    fresh = {}
    for point in (first, second):
        with TransformersEngine(device="cpu") as engine:
            engine.load(point)
            fresh[point.name] = by_id(list(engine.generate(requests)))
    assert fresh["checkpoint-1"] != fresh["checkpoint-2"]
    with TransformersEngine(device="cpu") as engine:
        for point in (first, second, first):
            engine.load(point)
            assert by_id(list(engine.generate(requests))) == fresh[point.name]
        assert (engine.builds, engine.swaps) == (1, 2)


def test_tied_weights_swap_too(make_checkpoint: Callable[..., Checkpoint]) -> None:
    first = make_checkpoint(seed=1, step=1, tie_word_embeddings=True)
    second = make_checkpoint(seed=2, step=2, tie_word_embeddings=True)
    ids = request(0, 30).prompt_token_ids
    with TransformersEngine(device="cpu") as engine:
        engine.load(first)
        engine.load(second)
        assert engine.swaps == 1
        (result,) = engine.score([ScoreRequest(0, ids, 10)], 1.0)
    assert result.logprobs == pytest.approx(brute_force_logprobs(load_reference(second), ids, 10, 1.0), abs=1e-5)


def test_another_architecture_rebuilds_the_model(make_checkpoint: Callable[..., Checkpoint]) -> None:
    with TransformersEngine(device="cpu") as engine:
        engine.load(make_checkpoint("llama"))
        engine.load(make_checkpoint("qwen3"))
        engine.load(make_checkpoint("qwen3", num_hidden_layers=3))
        assert (engine.builds, engine.swaps) == (3, 0)


def test_weights_of_other_shapes_than_the_configuration_are_refused(
    make_checkpoint: Callable[..., Checkpoint], tiny: Checkpoint, tmp_path: Path
) -> None:
    wrong = tmp_path / "checkpoint-9"
    shutil.copytree(tiny.path, wrong)
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with TransformersEngine(device="cpu") as engine:
        engine.load(tiny)
        with pytest.raises(CheckpointError, match=r"tensors missing.*do not belong to its config"):
            engine.load(Checkpoint("run", 9, wrong))
        with pytest.raises(RuntimeError, match="load"):  # never the old weights under the new name
            list(engine.generate([request(0)]))


def test_a_checkpoint_without_weights_is_refused(tiny: Checkpoint, tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint-3"
    shutil.copytree(tiny.path, broken)
    (broken / "model.safetensors").unlink()
    with TransformersEngine(device="cpu") as engine, pytest.raises(CheckpointError, match="missing weights"):
        engine.load(Checkpoint("run", 3, broken))


def test_a_failed_load_leaves_no_model_in_service(tiny: Checkpoint, tmp_path: Path) -> None:
    with TransformersEngine(device="cpu") as engine:
        engine.load(tiny)
        with pytest.raises(CheckpointError, match="does not exist"):
            engine.load(Checkpoint("run", 4, tmp_path / "checkpoint-4"))
        with pytest.raises(RuntimeError, match="load"):
            list(engine.generate([request(0)]))


def test_adapters_are_folded_into_their_base_and_share_its_model(
    tiny: Checkpoint, make_adapter: Callable[..., Checkpoint]
) -> None:
    one, two = make_adapter(tiny, 1), make_adapter(tiny, 2, use_rslora=True)
    ids = request(0, 30).prompt_token_ids
    with TransformersEngine(device="cpu") as engine:
        for served in (one, two, tiny, one):
            engine.load(served)
            (result,) = engine.score([ScoreRequest(0, ids, 10)], 1.0)
            model = load_reference(tiny)
            if served is not tiny:
                fold_by_hand(model, served.path, scale=8 / 4 if served is one else 8 / 4**0.5)
            assert result.logprobs == pytest.approx(brute_force_logprobs(model, ids, 10, 1.0), abs=5e-5)
        assert (engine.builds, engine.swaps) == (1, 3)


def fold_by_hand(model: Any, adapter: Path, scale: float) -> None:
    from safetensors.torch import load_file

    factors = load_file(adapter / "adapter_model.safetensors")
    weights = dict(model.named_parameters())
    for name, a in factors.items():
        if ".lora_A." in name:
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            weights[f"{module}.weight"].data += scale * (factors[name.replace("lora_A", "lora_B")] @ a)


def test_an_adapter_alone_builds_its_base(tiny: Checkpoint, make_adapter: Callable[..., Checkpoint]) -> None:
    with TransformersEngine(device="cpu") as engine:
        engine.load(make_adapter(tiny, 3))
        assert (engine.builds, engine.swaps) == (1, 0)
        assert len(list(engine.generate([request(0)]))) == 1


def test_requests_that_cannot_run_fail_alone(engine: TransformersEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    results = by_id(
        list(
            engine.generate(
                [
                    request(0),
                    request(1, prompt_token_ids=(3, 99999)),
                    request(2, 512),
                    request(3, 506, max_tokens=50),
                    request(4, temperature=-1.0),
                ]
            )
        )
    )
    assert results[0].error is None
    assert "99999 is outside" in (results[1].error or "")
    assert "context of 512" in (results[2].error or "")
    assert (len(results[3].token_ids), results[3].finish_reason) == (6, FinishReason.LENGTH)
    assert "negative" in (results[4].error or "")


def test_models_with_other_caches_decode_in_equal_lengths(engine: TransformersEngine, checkpoint: Checkpoint) -> None:
    requests = [request(i, 8 + 4 * (i % 3)) for i in range(9)]
    engine.load(checkpoint)
    ragged = by_id(list(engine.generate(requests)))
    engine._mode, engine._independent = DecodeMode.UNIFORM, False
    assert engine.decode_mode == "uniform"
    assert by_id(list(engine.generate(requests))) == ragged


def test_a_model_that_ignores_positions_is_refused(checkpoint: Checkpoint) -> None:
    model = load_reference(checkpoint)
    wrapped = LogitsModel(model, torch.device("cpu"))
    assert choose_mode(wrapped) is DecodeMode.RAGGED
    original = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: original(x, position_ids - position_ids.min())
    with pytest.raises(ValueError, match=r"cannot decode LlamaForCausalLM step by step.*use another engine"):
        choose_mode(wrapped)


def test_long_continuations_outgrow_the_first_slots(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint(max_position_embeddings=1024)
    requests = [request(i, 30, max_tokens=320) for i in range(2)]
    with TransformersEngine(device="cpu") as engine:
        engine.load(checkpoint)
        long = by_id(list(engine.generate(requests)))
        short = by_id(list(engine.generate([request(i, 30, max_tokens=100) for i in range(2)])))
    for i in range(2):
        assert len(long[i].token_ids) == 320
        assert long[i].token_ids[:100] == short[i].token_ids


def test_bfloat16_runs_and_stays_near_float32(checkpoint: Checkpoint) -> None:
    ids = request(0, 30).prompt_token_ids
    with TransformersEngine(device="cpu", dtype="bfloat16") as engine:
        engine.load(checkpoint)
        (low,) = engine.score([ScoreRequest(0, ids, 10)], 1.0)
        assert all(r.error is None for r in engine.generate([request(i) for i in range(3)]))
        assert engine.batch_rows == 512
    full = brute_force_logprobs(load_reference(checkpoint), ids, 10, 1.0)
    assert low.logprobs == pytest.approx(full, rel=0.1, abs=0.3)


def test_logits_that_are_not_finite_become_an_error(engine: TransformersEngine, checkpoint: Checkpoint) -> None:
    engine.load(checkpoint)
    engine._loaded().model.lm_head.weight.data[5] = float("nan")
    (generated,) = engine.generate([request(0)])
    (scored,) = engine.score([ScoreRequest(0, request(0).prompt_token_ids, 5)], 1.0)
    assert generated.finish_reason is FinishReason.ERROR
    assert "not finite" in (generated.error or "")
    assert "not finite" in (scored.error or "")


def test_out_of_memory_is_retried_with_half_the_batch(
    engine: TransformersEngine, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU here: the error that CUDA raises is raised for batches of more than three rows."""
    engine.load(checkpoint)
    engine.batch_size = 16
    requests = [request(i, 8 + i) for i in range(9)]
    scores = [ScoreRequest(i, request(i, 30).prompt_token_ids, 10) for i in range(9)]
    plain = by_id(list(engine.generate(requests))), list(engine.score(scores, 1.0))
    from foreshock.jobs.engines import decoding, transformers

    run, score = decoding.Decoder.run, transformers._score

    def short_of_memory(self: Any) -> Any:
        if len(self._requests) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return run(self)

    def score_short_of_memory(model: Any, chunk: Any, temperature: float) -> Any:
        if len(chunk) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return score(model, chunk, temperature)

    monkeypatch.setattr(decoding.Decoder, "run", short_of_memory)
    monkeypatch.setattr(transformers, "_score", score_short_of_memory)
    assert by_id(list(engine.generate(requests))) == plain[0]
    assert list(engine.score(scores, 1.0)) == plain[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, "valid: auto, float32, bfloat16, float16"),
        ({"device": "quantum"}, "valid: auto, cpu, cuda"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_bad_options_name_the_valid_ones(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformersEngine(**options)
