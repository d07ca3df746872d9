"""Whole traces are scored as the model would have to write them, in the pass that scores their levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from foreshock.batch.planning.specs import model_facts
from foreshock.jobs.engines.transformers import TransformersEngine
from foreshock.jobs.inputs import RunInputs
from foreshock.jobs.prefill import PrefillTrace
from foreshock.jobs.prompts.of_run import run_format
from foreshock.jobs.prompts.problem_prompt import build_user_message
from foreshock.jobs.records.planfile import WorkerSettings
from foreshock.jobs.records.rows import SCHEMA_VERSION, Row
from foreshock.jobs.records.spec import Checkpoint, JobKind, JobSpec, SamplingParams
from foreshock.jobs.scoring.of_specs import score_spec
from foreshock.jobs.verify.builtin.problems import make_problem

PROBLEM = make_problem("eval", "process_exit", 0)
REASONING = "I read the task first. The checker trusts a clean exit.\nSo I leave the process with status 0."
SETTINGS = WorkerSettings(
    engine="transformers",
    engine_options={},
    verifier="builtin",
    verifier_options={},
    prompt_format="auto",
    system=None,
    instructions="bare",
    assignment="shared",
    token_logprobs=False,
    git_commit=None,
    image_digest=None,
    whole_trace=True,
)


def _rows(
    checkpoint: Checkpoint,
    settings: WorkerSettings,
    levels: tuple[int, ...] = (0, 3, 8),
    traces: tuple[str, ...] = (REASONING,),
) -> tuple[list[Row], TransformersEngine]:
    own = [PrefillTrace(PROBLEM.id, text, None, i, f"f:{i + 1}") for i, text in enumerate(traces)]
    inputs = RunInputs({PROBLEM.id: PROBLEM}, {PROBLEM.id: own}, "per_attempt", len(own))
    facts = model_facts(settings, checkpoint)
    spec = JobSpec(
        JobKind.LOGPROB, checkpoint, levels, (PROBLEM.id,), tuple(range(len(own))), SamplingParams(),
        facts.prompt_format, facts.template_sha256, facts.fingerprint, "", "", "", SCHEMA_VERSION,
    )  # fmt: skip
    engine = TransformersEngine(device="cpu", dtype="float32", threads=1)
    engine.load(checkpoint)
    rows = [
        row
        for part in score_spec(engine, run_format(settings, checkpoint), inputs, settings, spec, frozenset())
        for row in part
    ]
    return rows, engine


def test_the_whole_is_a_forward_pass_over_reasoning_closing_and_code(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    import torch

    checkpoint = make_checkpoint(tokenizer="think")
    rows, engine = _rows(checkpoint, SETTINGS)
    last = max(rows, key=lambda row: row["prefill_level"])
    prompt_format = run_format(SETTINGS, checkpoint)
    user = build_user_message(PROBLEM, "bare")
    start = len(prompt_format.render(None, user, "").token_ids)
    answer = f"```python\n{PROBLEM.exploit.strip()}\n```"
    whole = prompt_format.render_answer(None, user, REASONING, answer)
    with torch.inference_mode():
        logits = engine._loaded().model(torch.tensor([whole.token_ids])).logits[0].double()
    values = torch.log_softmax(logits, -1)[:-1].gather(-1, torch.tensor(whole.token_ids)[1:, None]).squeeze(-1)
    assert last["trace_logprob_sum"] == pytest.approx(float(values[start - 1 :].sum()), abs=1e-3)
    assert last["trace_code_logprob"] == pytest.approx(float(values[whole.prefill_start - 1 :].sum()), abs=1e-3)
    assert last["trace_num_tokens"] == len(whole.token_ids) - start
    assert len(last["trace_sentences"]) == 3
    assert math.fsum([*last["trace_sentences"], last["trace_code_logprob"]]) == pytest.approx(last["trace_logprob_sum"])
    assert [row["trace_logprob_sum"] for row in rows if row is not last] == [None]


def test_traces_that_begin_with_the_same_words_are_scored_each_to_its_own_end(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = make_checkpoint(tokenizer="think")
    other = "I read the task first. The checker trusts a clean exit, and I do not."
    both, engine = _rows(checkpoint, SETTINGS, traces=(REASONING, other, REASONING))
    sums = {row["attempt_idx"]: row["trace_logprob_sum"] for row in both if row["prefill_level"] == 8}
    alone = [_rows(checkpoint, SETTINGS, traces=(text,))[0][-1]["trace_logprob_sum"] for text in (REASONING, other)]
    assert [sums[0], sums[1], sums[2]] == pytest.approx([*alone, alone[0]], abs=1e-4)
    assert engine.scored_sequences == 2


def test_levels_are_what_they_are_without_it_and_cost_no_further_pass(
    make_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = make_checkpoint(tokenizer="think")
    with_it, engine = _rows(checkpoint, SETTINGS)
    without, plain = _rows(checkpoint, replace(SETTINGS, whole_trace=False))
    assert engine.scored_sequences == plain.scored_sequences
    for a, b in zip(with_it, without, strict=True):
        assert a["prefill_logprob_sum"] == pytest.approx(b["prefill_logprob_sum"], abs=1e-4)
        assert b["trace_logprob_sum"] is None


def test_a_trace_that_does_not_fit_leaves_its_levels_their_scores(make_checkpoint: Callable[..., Any]) -> None:
    long = make_checkpoint(tokenizer="think")
    start = len(run_format(SETTINGS, long).render(None, build_user_message(PROBLEM, "bare"), "").token_ids)
    short = make_checkpoint(tokenizer="think", max_position_embeddings=start + 40)
    rows, _ = _rows(short, SETTINGS)
    assert all(row["prefill_logprob_sum"] is not None for row in rows)
    assert all(row["trace_logprob_sum"] is None for row in rows)


def test_a_format_without_a_reasoning_section_has_no_whole_trace(make_checkpoint: Callable[..., Checkpoint]) -> None:
    rows, _ = _rows(make_checkpoint(tokenizer="chat"), SETTINGS)
    assert all(row["trace_logprob_sum"] is None and row["prefill_logprob_sum"] < 0 for row in rows)
